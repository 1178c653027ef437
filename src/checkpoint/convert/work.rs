//! Doing what is planned: one thread reads, the caller's encodes (with its pool), one writes, each a tensor ahead of
//! the next as far as memory allows.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use safetensors::tensor::Dtype;

use super::budget::Budget;
use super::partial::{ItemId, Partial};
use super::plan::{Item, Origin, Plan, Work};
use super::{Progress, Stop};
use crate::bytes::Bytes;
use crate::checkpoint::matrix::{Access, Floats, Matrix, to_bytes};
use crate::checkpoint::model::Checkpoint;
use crate::checkpoint::scale::within;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::show::quoted;
use crate::weights::Weights;
use half::{bf16, f16};

/// Bytes of a tensor that are copied at a time.
const CHUNK: usize = 64 << 20;

/// Weights that are decoded at a time.
const BAND: usize = 8 << 20;

/// How much, or for how long, is written before it is brought to disk and noted.
const SYNC: (u64, Duration) = (512 << 20, Duration::from_millis(250));

/// Something that was read.
struct Input {
    id: ItemId,
    /// What it takes of the budget.
    cost: usize,
    data: Data,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there are few of them, and each is moved once or twice"
)]
enum Data {
    /// A part of a tensor that is copied: where in it, and whether it is the last one.
    Part {
        first: usize,
        bytes: Bytes<'static>,
        last: bool,
    },
    Matrix(Matrix),
}

/// Something to write.
struct Piece {
    id: ItemId,
    data: Written,
    /// What of the budget is free then.
    cost: usize,
    /// Whether the item is done with it.
    last: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there are few of them, and each is moved once or twice"
)]
enum Written {
    /// Bytes, from some byte of a tensor on.
    Bytes { name: String, first: usize, bytes: Bytes<'static> },
    /// A layer of this name.
    Layer(String, Weights<'static>),
}

/// Does what is left to do.
pub(super) fn run(
    model: &Checkpoint,
    plan: &Plan,
    partial: &mut Partial,
    progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
) -> Result<(), Stop> {
    let items = plan.files.iter().enumerate();
    let items = items.flat_map(|(f, file)| (0..file.items.len()).map(move |i| (f, i)));
    let todo: Vec<ItemId> = items.filter(|id| !partial.is_done(*id)).collect();
    if partial.resumed() > 0 {
        let bytes = partial.resumed();
        progress(Progress { tensor: "", bytes }).map_err(Stop::Caller)?;
    }
    let budget = Budget::default();
    thread::scope(|scope| {
        let (to_make, made) = sync_channel(1);
        let (to_write, written) = sync_channel(1);
        let reader = scope.spawn(|| read(model, plan, todo, &budget, to_make));
        let writer = scope.spawn(|| write(plan, partial, &budget, written));
        let result = make(model, plan, made, to_write, progress);
        // Whoever waits for memory waits no more.
        budget.close();
        let read = reader.join().expect("the reader does not panic");
        let written = writer.join().expect("the writer does not panic");
        // What the caller's thread says is a consequence where another has failed.
        written.and(read).and(result)
    })
}

/// Reads the input, an item at a time.
fn read(
    model: &Checkpoint,
    plan: &Plan,
    todo: Vec<ItemId>,
    budget: &Budget,
    to: SyncSender<Input>,
) -> Result<(), Stop> {
    let source = model.source();
    for id in todo {
        let item = item(plan, id);
        let send = |cost: usize, data: Result<Data>| {
            let data = data.map_err(Stop::Input)?;
            Ok::<_, Stop>(to.send(Input { id, cost, data }).is_ok())
        };
        match &item.work {
            Work::Carry(tensor) => {
                let mut first = 0;
                loop {
                    let end = item.bytes.min(first + CHUNK);
                    if !budget.take(end - first) {
                        return Ok(());
                    }
                    let bytes = source.read(*tensor, first..end, Access::Window);
                    let last = end == item.bytes;
                    let data = bytes.map(|bytes| Data::Part { first, bytes, last });
                    if !send(end - first, data)? {
                        return Ok(());
                    }
                    if last {
                        break;
                    }
                    first = end;
                }
            }
            Work::Codes { from, bytes, .. } => {
                let cost = item.bytes + bytes;
                if !budget.take(cost) || !send(cost, load(model, *from).map(Data::Matrix))? {
                    return Ok(());
                }
            }
            Work::Floats { from, .. } => {
                let cost = item.bytes + 4 * 4 * BAND;
                if !budget.take(cost) || !send(cost, load(model, *from).map(Data::Matrix))? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn item(plan: &Plan, (file, item): ItemId) -> &Item {
    &plan.files[file].items[item]
}

fn load(model: &Checkpoint, from: Origin) -> Result<Matrix> {
    let source = model.source();
    match from {
        Origin::Linear(number) => source.matrix(number, Access::Window),
        Origin::Tensor(id, shape) => {
            let tensor = source.tensor(id);
            let bytes = source.read(id, 0..tensor.bytes, Access::Window)?;
            Ok(Matrix::Floats(Floats::new(shape, tensor.dtype, bytes)?))
        }
    }
}

/// Makes what is to be written.
fn make(
    model: &Checkpoint,
    plan: &Plan,
    from: Receiver<Input>,
    to: SyncSender<Piece>,
    progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
) -> Result<(), Stop> {
    for Input { id, cost, data } in from {
        let item = item(plan, id);
        let fail = |e: Error| Stop::Input(name(model, plan, id, e));
        let (done, open) = match (data, &item.work) {
            (Data::Part { first, bytes, last }, _) => {
                let (length, name) = (bytes.len(), item.tensor.clone());
                let data = Written::Bytes { name, first, bytes };
                (length, to.send(Piece { id, data, cost, last }).is_ok())
            }
            (Data::Matrix(matrix), Work::Floats { name, dtype, first, .. }) => {
                let target = Band { id, name, first: *first, cost, to: &to };
                let open = match dtype {
                    Dtype::F16 => target.write::<f16>(&matrix),
                    Dtype::BF16 => target.write::<bf16>(&matrix),
                    _ => target.write::<f32>(&matrix),
                };
                (item.bytes, open.map_err(fail)?)
            }
            (Data::Matrix(matrix), Work::Codes { name, to: format, .. }) => {
                let weights = match (matrix, format) {
                    (Matrix::Coded(weights), None) => Ok(weights),
                    (matrix, Some((format, granularity))) => matrix.encode(format, *granularity),
                    (Matrix::Floats(_), None) => {
                        Err(Error::invalid("weights", "are floats, and stay as they are"))
                    }
                };
                let data = Written::Layer(name.clone(), weights.map_err(fail)?);
                (item.bytes, to.send(Piece { id, data, cost, last: true }).is_ok())
            }
            (Data::Matrix(_), Work::Carry(_)) => (0, true),
        };
        if !open {
            return Ok(());
        }
        progress(Progress { tensor: &item.tensor, bytes: done as u64 }).map_err(Stop::Caller)?;
    }
    Ok(())
}

/// Says in which tensor of which file something is wrong.
fn name(model: &Checkpoint, plan: &Plan, id: ItemId, error: Error) -> Error {
    let path = &model.files()[id.0].path;
    Error::file(path, format!("tensor {}: {}", quoted(&item(plan, id).tensor), within(error)))
}

/// Floats that are to be written, some rows at a time.
struct Band<'a> {
    id: ItemId,
    name: &'a str,
    first: usize,
    cost: usize,
    to: &'a SyncSender<Piece>,
}

impl Band<'_> {
    /// Rounds a matrix to a type; whether there is still somebody who writes it.
    fn write<T: Element>(&self, matrix: &Matrix) -> Result<bool> {
        let (n, k) = matrix.shape();
        if let Matrix::Coded(weights) = matrix {
            weights.prepare()?;
        }
        let rows = (BAND / k.max(1)).clamp(1, n.max(1));
        // Rows without columns are nothing to write, however many there are.
        let count = if k == 0 { 0 } else { n };
        let mut row = 0;
        loop {
            let end = count.min(row + rows);
            let mut values = vec![T::from_f32(0.0); (end - row) * k];
            match matrix {
                Matrix::Coded(weights) => weights.decode_rows(row..end, &mut values)?,
                Matrix::Floats(floats) => {
                    let wide = floats.rows(row..end);
                    T::narrow(&wide, &mut values);
                    let lost = |(w, v): (&f32, &T)| w.is_finite() && !v.to_f32().is_finite();
                    if let Some(i) = wide.iter().zip(&values).position(lost) {
                        let (row, col) = (row + i / k, i % k);
                        let why = format!(
                            "{} at row {row}, column {col} is beyond {}",
                            wide[i],
                            T::NAME.to_uppercase()
                        );
                        return Err(Error::invalid("weights", why));
                    }
                }
            }
            let last = end == count;
            let (name, first) = (self.name.to_owned(), self.first + row * k * size_of::<T>());
            let bytes = to_bytes(&values).into_owned().into();
            let data = Written::Bytes { name, first, bytes };
            let cost = if last { self.cost } else { 0 };
            if self.to.send(Piece { id: self.id, data, cost, last }).is_err() {
                return Ok(false);
            }
            if last {
                return Ok(true);
            }
            row = end;
        }
    }
}

/// Writes pieces, and notes in the journal what is on disk.
fn write(
    plan: &Plan,
    partial: &mut Partial,
    budget: &Budget,
    from: Receiver<Piece>,
) -> Result<(), Stop> {
    let mut writer =
        Writer { plan, partial, file: None, unsynced: Vec::new(), bytes: 0, since: Instant::now() };
    for Piece { id, data, cost, last } in from {
        writer.write(id, &data).map_err(|e| {
            let output = &plan.output;
            let path = if plan.folder.is_some() {
                output.join(&plan.files[id.0].name)
            } else {
                output.clone()
            };
            let tensor = quoted(&item(plan, id).tensor);
            budget.close();
            Stop::Output(Error::file(&path, format!("writing tensor {tensor}: {e}")))
        })?;
        drop(data);
        budget.give(cost);
        if last {
            writer.unsynced.push(id);
        }
    }
    // Files without tensors are files, too.
    let mut rest = || {
        writer.sync()?;
        for number in 0..plan.files.len() {
            if plan.files[number].items.is_empty() {
                writer.partial.file(plan, number)?.sync_data()?;
            }
        }
        Ok(())
    };
    rest().map_err(|e: io::Error| Stop::Output(Error::file(&plan.output, e)))
}

struct Writer<'a> {
    plan: &'a Plan,
    partial: &'a mut Partial,
    /// The file that is open, by its number.
    file: Option<(usize, File)>,
    unsynced: Vec<ItemId>,
    bytes: u64,
    since: Instant,
}

impl Writer<'_> {
    fn write(&mut self, id: ItemId, data: &Written) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|(number, _)| *number != id.0) {
            self.sync()?;
            self.file = Some((id.0, self.partial.file(self.plan, id.0)?));
        }
        match data {
            Written::Bytes { name, first, bytes } => self.put(name, *first, bytes)?,
            Written::Layer(name, weights) => {
                self.put(&format!("{name}.codes"), 0, weights.codes())?;
                self.put(&format!("{name}.table"), 0, &to_bytes(weights.lut().values()))?;
                self.put(&format!("{name}.scales"), 0, &to_bytes(weights.scales().values()))?;
                if let Some(signs) = weights.signs() {
                    self.put(&format!("{name}.signs"), 0, signs)?;
                }
            }
        }
        if self.bytes >= SYNC.0 || self.since.elapsed() >= SYNC.1 {
            self.sync()?;
        }
        Ok(())
    }

    /// Writes some bytes of a tensor to their place.
    fn put(&mut self, name: &str, first: usize, bytes: &[u8]) -> io::Result<()> {
        let Some((number, file)) = &mut self.file else { return Ok(()) };
        let place = self.plan.files[*number].layout.places.get(name);
        let fits = |(_, length): &&(u64, usize)| first + bytes.len() <= *length;
        let unplanned = || io::Error::other(format!("{} bytes were not planned for", bytes.len()));
        let (start, _) = place.filter(fits).ok_or_else(unplanned)?;
        file.seek(SeekFrom::Start(start + first as u64))?;
        file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Brings to disk what was written, and notes it.
    fn sync(&mut self) -> io::Result<()> {
        if let Some((_, file)) = &self.file
            && !self.unsynced.is_empty()
        {
            file.sync_data()?;
            self.partial.record(&mut self.unsynced)?;
        }
        (self.bytes, self.since) = (0, Instant::now());
        Ok(())
    }
}
