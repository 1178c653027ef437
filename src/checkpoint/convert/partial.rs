//! The folder that an output is made in, and the journal that tells how far it is.
//!
//! The journal's first line says of which conversion it is: target, plan, and the size and time of each file of the
//! model. A line follows for every item that is on disk. It is locked while its process lives; the system unlocks it
//! however that ends.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{Conversion, Stop};
use crate::checkpoint::model::Checkpoint;
use crate::error::{Error, Result};
use crate::show::quoted;

/// The journal.
const JOURNAL: &str = ".lutmul-journal";

/// What is added to the output's name.
const SUFFIX: &str = ".partial";

/// An item of a plan: the numbers of its file, and of the item.
pub(super) type ItemId = (usize, usize);

/// The first line of a journal.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    /// The version of journals.
    lutmul: u32,
    target: String,
    /// What becomes of which tensor.
    plan: u64,
    sources: Vec<SourceState>,
}

/// A file of the model, as it was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SourceState {
    name: String,
    size: u64,
    /// When it was written, in nanoseconds since 1970.
    modified: u128,
}

/// An output in the making.
pub(super) struct Partial {
    path: PathBuf,
    journal: File,
    done: HashSet<ItemId>,
    resumed: u64,
}

impl Partial {
    /// Begins, or carries on with what the same conversion has left.
    pub fn open(model: &Checkpoint, plan: &Plan, conversion: &Conversion<'_>) -> Result<Self> {
        let mut name = plan.output.file_name().unwrap_or_default().to_owned();
        name.push(SUFFIX);
        let path = plan.output.with_file_name(name);
        let head = Head {
            lutmul: 1,
            target: conversion.target.to_string(),
            plan: plan.fingerprint,
            sources: states(model)?,
        };
        match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // What can't be written is what the caller has named.
                Self::begin(path, &head).map_err(|e| Error::file(&plan.output, e))
            }
            Err(e) => Err(Error::file(&path, e)),
            Ok(_) => Self::resume(path, &head, plan, conversion.restart),
        }
    }

    fn begin(path: PathBuf, head: &Head) -> io::Result<Self> {
        fs::create_dir(&path)?;
        let begin = || {
            let journal = File::create_new(path.join(JOURNAL))?;
            lock(&journal)?;
            Self::write_head(&journal, head)?;
            Ok::<_, io::Error>(journal)
        };
        let begun = begin().inspect_err(|_| {
            let _ = fs::remove_file(path.join(JOURNAL));
            let _ = fs::remove_dir(&path);
        });
        Ok(Self { journal: begun?, path, done: HashSet::new(), resumed: 0 })
    }

    fn write_head(mut journal: &File, head: &Head) -> io::Result<()> {
        let mut line = serde_json::to_vec(head)?;
        line.push(b'\n');
        // Lost in a crash, nothing is done yet.
        journal.write_all(&line)
    }

    fn resume(path: PathBuf, head: &Head, plan: &Plan, restart: bool) -> Result<Self> {
        let error = |e: io::Error| Error::file(&path, e);
        let at = path.join(JOURNAL);
        let opened = OpenOptions::new().read(true).append(true).open(&at);
        let journal = match opened {
            Ok(journal) => journal,
            Err(_) => {
                let why =
                    "is there, and no conversion has left it: move it away, or name another output";
                return Err(Error::file(&path, why));
            }
        };
        lock(&journal).map_err(error)?;
        let mut lines = BufReader::new(&journal);
        let mut first = String::new();
        // Not more than a head may be, of a file that may be anything.
        lines.by_ref().take(1 << 24).read_line(&mut first).map_err(error)?;
        let whole = first.ends_with('\n');
        let was: Option<Head> = serde_json::from_str(&first).ok().filter(|_| whole);
        // Killed as it began: nothing is done.
        let fresh = first.is_empty() || (!whole && first.starts_with("{\"lutmul\""));
        if was.is_none() && !fresh {
            return Err(Error::file(&at, "is no journal of a conversion: move its folder away"));
        }
        if restart || fresh {
            clear(&path).map_err(error)?;
            journal.set_len(0).map_err(error)?;
            Self::write_head(&journal, head).map_err(error)?;
            return Ok(Self { path, journal, done: HashSet::new(), resumed: 0 });
        }
        if let Some(difference) = was.as_ref().and_then(|was| was.differs(head)) {
            let why = format!("holds an unfinished conversion {difference}: finish it, or restart");
            return Err(Error::file(&path, why));
        }
        // Of a line that was not written to its end, nothing is known, and the next begins in its place.
        let mut noted = String::new();
        lines.read_to_string(&mut noted).map_err(error)?;
        noted.truncate(noted.rfind('\n').map_or(0, |end| end + 1));
        journal.set_len((first.len() + noted.len()) as u64).map_err(error)?;
        let item = |line: &str| {
            let (file, item) = line.split_once(' ')?;
            Some((file.parse().ok()?, item.parse().ok()?))
        };
        let mut done: HashSet<ItemId> = noted.lines().map_while(item).collect();
        // Of files that are not what they should be, nothing is.
        for (i, file) in plan.files.iter().enumerate() {
            let mut start = vec![0; file.layout.head.len()];
            let mut sound = || {
                let mut made = File::open(path.join(&file.name))?;
                made.read_exact(&mut start)?;
                Ok::<_, io::Error>(made.metadata()?.len() == file.layout.size)
            };
            let sound = sound().unwrap_or(false) && start == file.layout.head;
            done.retain(|(file, _)| sound || *file != i);
        }
        let bytes = |(file, item): &ItemId| {
            plan.files.get(*file)?.items.get(*item).map(|item| item.bytes as u64)
        };
        let resumed = done.iter().filter_map(bytes).sum();
        Ok(Self { path, journal, done, resumed })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an item is done.
    pub fn is_done(&self, item: ItemId) -> bool {
        self.done.contains(&item)
    }

    /// Bytes of the input that were done when it was opened.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// Opens a file of weights, which has its head and its length from then on.
    pub fn file(&self, plan: &Plan, number: usize) -> io::Result<File> {
        let file = &plan.files[number];
        let path = self.path.join(&file.name);
        let begun = self.done.iter().any(|(file, _)| *file == number);
        let mut open = OpenOptions::new();
        let mut made = open.write(true).create(true).truncate(!begun).open(path)?;
        if !begun {
            made.write_all(&file.layout.head)?;
            made.set_len(file.layout.size)?;
        }
        Ok(made)
    }

    /// Notes items that are on disk.
    pub fn record(&mut self, items: &mut Vec<ItemId>) -> io::Result<()> {
        let lines: String = items.iter().map(|(file, item)| format!("{file} {item}\n")).collect();
        self.journal.write_all(lines.as_bytes())?;
        self.done.extend(items.drain(..));
        Ok(())
    }

    /// Gives the output its name. All of its items are on disk, so that a crash leaves the whole output or none.
    pub fn publish(&mut self, plan: &Plan, overwrite: bool) -> Result<(), Stop> {
        let Self { path, .. } = self;
        let output = &plan.output;
        let publish = || {
            let [file] = &plan.files[..] else { return rename_folder(path, output) };
            if plan.folder.is_some() {
                return rename_folder(path, output);
            }
            let made = path.join(&file.name);
            if overwrite {
                fs::rename(&made, output)?;
            } else {
                rename_new(&made, output)?;
            }
            let _ = fs::remove_file(path.join(JOURNAL));
            let _ = fs::remove_dir(path);
            Ok(())
        };
        publish().map_err(|e| Stop::Output(Error::file(output, e)))
    }

    /// Leaves it to be carried on with, if there is anything to carry on with; else removes it.
    pub fn abandon(self, keep: bool) {
        if keep && !self.done.is_empty() {
            return;
        }
        // What can't be removed stays, and is said to be there by the next conversion.
        let _ = clear(&self.path);
        let _ = fs::remove_file(self.path.join(JOURNAL));
        let _ = fs::remove_dir(&self.path);
    }
}

impl Head {
    /// How a conversion differs from this one.
    fn differs(&self, now: &Self) -> Option<String> {
        if self.lutmul != now.lutmul {
            return Some("of another version of lutmul".into());
        }
        let gone = |was: &&SourceState| !now.sources.contains(was);
        if let Some(was) = self.sources.iter().find(gone) {
            return Some(format!("of a model whose {} has changed since", quoted(&was.name)));
        }
        if self.sources != now.sources {
            return Some("of a model of fewer files".into());
        }
        if self.target != now.target {
            return Some(format!("with other options (to {}, not {})", self.target, now.target));
        }
        (self.plan != now.plan).then(|| "with other options (other tensors are converted)".into())
    }
}

/// The files of a model, as they are.
fn states(model: &Checkpoint) -> Result<Vec<SourceState>> {
    let state = |path: &PathBuf| {
        let data = fs::metadata(path).map_err(|e| Error::file(path, e))?;
        let modified =
            data.modified().ok().and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(SourceState {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size: data.len(),
            modified: modified.map_or(0, |t| t.as_nanos()),
        })
    };
    model.files().iter().map(|file| state(&file.path)).collect()
}

/// Locks a journal, unless its process lives.
fn lock(journal: &File) -> io::Result<()> {
    match journal.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another process is at work on it")),
        // There are no locks here.
        Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Removes everything but the journal.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == JOURNAL {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn rename_folder(from: &Path, to: &Path) -> io::Result<()> {
    // An empty folder could be replaced.
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)?;
    // The output is whole with it, too.
    let _ = fs::remove_file(to.join(JOURNAL));
    Ok(())
}

/// Renames a file to a name that nobody has taken meanwhile.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
        // Not every file system has links.
        Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}
