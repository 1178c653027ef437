//! Files and directories under names that nobody asked for: gone when they are dropped, and where their process
//! was killed before, as soon as the next one makes some beside them.
//!
//! Each is locked while its process lives, and the system unlocks it however that ends: what is not locked is
//! nobody's. Neither a process's number nor a file's age would tell that for certain.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

/// How the names begin and end.
const ENDS: (&str, &str) = (".lutmul-", ".tmp");

/// In a directory, which not every system can lock, the file that is locked.
const LOCK: &str = "lock";

/// A new file in the directory of another one.
pub(super) fn file_beside(target: &Path) -> io::Result<NamedTempFile> {
    let make = |builder: &mut Builder<'_, '_>, within: &Path| {
        #[cfg(unix)]
        {
            // As any new file, under the user's umask; temporary files are private otherwise.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(within)?;
        Ok(is_ours(file.as_file(), file.path()).then_some(file))
    };
    make_beside(target, make)
}

/// A directory for what is to be moved to its place when it is whole.
pub(super) struct Directory {
    // Let go of first: an open file can't be removed everywhere.
    _lock: File,
    temporary: TempDir,
}

impl Directory {
    /// A new one in the directory of another one.
    pub fn beside(target: &Path) -> io::Result<Self> {
        make_beside(target, |builder, within| {
            let temporary = builder.tempdir_in(within)?;
            let path = temporary.path().join(LOCK);
            let lock = match File::create_new(&path) {
                // Empty, it was taken for what a dead process had left.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                lock => lock?,
            };
            Ok(is_ours(&lock, &path).then_some(Self { _lock: lock, temporary }))
        })
    }

    /// A place in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }
}

/// Tries until a name is had that no other process has taken away meanwhile.
fn make_beside<T>(
    target: &Path,
    make: impl Fn(&mut Builder<'_, '_>, &Path) -> io::Result<Option<T>>,
) -> io::Result<T> {
    let within = directory(target);
    sweep(within);
    for _ in 0..100 {
        let mut builder = Builder::new();
        if let Some(made) = make(builder.prefix(ENDS.0).suffix(ENDS.1), within)? {
            return Ok(made);
        }
    }
    Err(io::Error::other("temporary files are removed by some other program"))
}

/// Locks a new file. Until then another process may take it for a dead one's, lock it, and remove it.
fn is_ours(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Ok(()) => path.symlink_metadata().is_ok(),
        Err(TryLockError::WouldBlock) => false,
        // There are no locks here, and so nobody removes anything.
        Err(TryLockError::Error(_)) => true,
    }
}

/// Removes what processes have left in a directory that are no more, as far as that is possible.
fn sweep(directory: &Path) {
    let has_ends = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.starts_with(ENDS.0.as_bytes()) && name.ends_with(ENDS.1.as_bytes())
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| has_ends(&entry.file_name())) {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        // It may not be there any more, or be another user's: that is fine.
        let _ = if kind.is_file() {
            unless_locked(&path, || fs::remove_file(&path))
        } else if kind.is_dir() {
            match unless_locked(&path.join(LOCK), || fs::remove_dir_all(&path)) {
                // Killed before it was locked. If it is not empty it is none of ours, and stays.
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_dir(&path),
                done => done,
            }
        } else {
            continue;
        };
    }
}

/// Does something to a file that no process has locked, which none can lock meanwhile.
fn unless_locked(path: &Path, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // Some network file systems lock for writing only what is open for writing.
    let file = OpenOptions::new().write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => work(),
        Err(_) => Ok(()),
    }
}

/// The directory that a file is in.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_the_dead_left_is_removed_and_nothing_else() {
        let within = tempfile::tempdir().unwrap();
        let path = |name: &str| within.path().join(name);
        // As killed processes leave them: not locked by anyone.
        fs::write(path(".lutmul-dead01.tmp"), b"half a file").unwrap();
        fs::create_dir_all(path(".lutmul-dead02.tmp/out")).unwrap();
        fs::write(path(".lutmul-dead02.tmp/lock"), b"").unwrap();
        fs::write(path(".lutmul-dead02.tmp/out/1.safetensors"), b"a shard").unwrap();
        fs::create_dir(path(".lutmul-dead03.tmp")).unwrap();
        // Of others.
        let others = [".lutmul-notes", "a.tmp", "model.lutmul-x.tmp"];
        others.iter().for_each(|name| fs::write(path(name), b"precious").unwrap());
        fs::create_dir_all(path(".lutmul-folder.tmp/precious")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("a.tmp", path(".lutmul-link.tmp")).unwrap();

        let target = path("target");
        let (file, dir) = (file_beside(&target).unwrap(), Directory::beside(&target).unwrap());
        let (again, dir_again) =
            (file_beside(&target).unwrap(), Directory::beside(&target).unwrap());
        let left = names(within.path());
        assert!(!left.iter().any(|name| name.contains("dead")), "{left:?}");
        assert!(others.iter().all(|name| path(name).is_file()), "{left:?}");
        assert!(path(".lutmul-folder.tmp/precious").is_dir());
        assert!(cfg!(windows) || path(".lutmul-link.tmp").is_symlink());
        for live in [file.path(), again.path(), &dir.path(LOCK), &dir_again.path(LOCK)] {
            assert!(live.is_file(), "{}", live.display());
        }
        drop((file, dir, again, dir_again));
        assert_eq!(names(within.path()).len(), left.len() - 4);
    }

    /// Threads that make and drop them as fast as they can, each with locks of its own, sweep away nothing of each
    /// other's.
    #[test]
    fn the_living_keep_theirs() {
        let within = tempfile::tempdir().unwrap();
        let (target, stop) = (within.path().join("target"), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let file = file_beside(&target).unwrap();
                        let dir = Directory::beside(&target).unwrap();
                        fs::create_dir(dir.path("out")).unwrap();
                        thread::yield_now();
                        assert!(file.path().is_file() && dir.path("out").is_dir());
                        assert!(dir.path(LOCK).is_file());
                        drop(dir);
                        file.persist(
                            target.with_extension(format!("{:?}", thread::current().id())),
                        )
                        .unwrap();
                    }
                    stop.store(true, Ordering::Relaxed);
                });
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    sweep(within.path());
                }
            });
        });
        assert_eq!(names(within.path()).len(), 3, "one file of each thread, nothing temporary");
    }
}
