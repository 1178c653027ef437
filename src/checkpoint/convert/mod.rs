//! From any model to lutmul's own files, or to floats.
//!
//! A conversion is planned first ([`plan`]): what becomes of each tensor, where it will be in which file, how large the
//! files will be. Then the work is done, an item of the plan at a time ([`work`]), into a folder beside the output that
//! keeps a journal ([`partial`]); what a model's folder has beside weights is copied ([`folder`]). The output gets its
//! name when it is whole and on disk.

mod budget;
mod folder;
mod output;
mod partial;
mod plan;
mod work;

use std::path::Path;

use safetensors::tensor::Dtype;

use super::model::{Checkpoint, Reason};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::scales::Granularity;
use plan::Plan;

/// What becomes of weights.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// Codes, in lutmul's own files.
    Codes {
        /// The format of the codes.
        format: Format,
        /// What each scale covers.
        granularity: Granularity,
    },
    /// Floats, for programs that know neither those files nor the model's own layout: F32, F16 or BF16.
    Floats(Dtype),
}

/// A tensor that may be converted.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// Its name.
    pub tensor: &'a str,
    /// Whether it is converted if nobody says anything: the weights of linears are, but for those that config.json
    /// says are not to be quantised.
    pub default: bool,
}

/// How to convert a model.
#[derive(Clone)]
#[non_exhaustive]
pub struct Conversion<'a> {
    /// What becomes of weights.
    pub target: Target,
    /// Which tensors to convert, of matrices that are codes or floats.
    pub select: &'a dyn Fn(&Candidate<'_>) -> bool,
    /// Whether a file at the output's path may be replaced. (A folder never is.)
    pub overwrite: bool,
    /// Whether what an interrupted conversion has left is thrown away, and not carried on with.
    pub restart: bool,
}

impl<'a> Conversion<'a> {
    /// To codes in lutmul's own files.
    pub fn to_codes(format: Format, granularity: Granularity) -> Self {
        Self::to(Target::Codes { format, granularity })
    }

    /// To F32, F16 or BF16.
    pub fn to_floats(dtype: Dtype) -> Self {
        Self::to(Target::Floats(dtype))
    }

    fn to(target: Target) -> Self {
        Self { target, select: &|candidate| candidate.default, overwrite: false, restart: false }
    }

    /// The same of these tensors only.
    pub fn of(mut self, select: &'a dyn Fn(&Candidate<'_>) -> bool) -> Self {
        self.select = select;
        self
    }
}

/// What a conversion does.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The matrices that are converted.
    pub converted: Vec<Converted>,
    /// The weights of two dimensions, and those in FP8, that are not, and why.
    pub left: Vec<Left>,
    /// How many tensors are carried over as they are.
    pub carried: usize,
    /// Tensors that are left out: static scales of activations, of matrices that are converted.
    pub dropped: Vec<String>,
    /// Files of the model's folder that are copied.
    pub copied: Vec<String>,
    /// Files of the model's folder that are not: other weights, and what is not known.
    pub not_copied: Vec<String>,
    /// Bytes of the files with weights, before.
    pub bytes_before: u64,
    /// Bytes of the files with weights, after.
    pub bytes_after: u64,
    /// Bytes of the input that an interrupted conversion had done before.
    pub resumed: u64,
}

/// A matrix that is converted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Converted {
    /// Its name.
    pub name: String,
    /// The tensor that holds it.
    pub tensor: String,
    /// The type of its elements there.
    pub dtype: &'static str,
    /// Rows and columns.
    pub shape: (usize, usize),
    /// Bytes on disk before.
    pub bytes_before: usize,
    /// And after: codes, signs, table and scales, or floats.
    pub bytes_after: usize,
}

/// A weight that is not converted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Left {
    /// The tensor.
    pub tensor: String,
    /// The type of its elements.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Why it is not.
    pub why: Why,
}

/// Why a weight is not converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It belongs to no linear.
    Not(Reason),
    /// config.json says that it is not to be quantised.
    Skipped,
    /// It was not selected.
    Excluded,
    /// It is what it would be converted to.
    Already,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Not(reason) => reason.fmt(f),
            Self::Skipped => f.write_str("config.json says that it is not to be quantised"),
            Self::Excluded => f.write_str("excluded"),
            Self::Already => f.write_str("as it should be already"),
        }
    }
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The tensor that was worked on last.
    pub tensor: &'a str,
    /// Bytes of the input done since the last time.
    pub bytes: u64,
}

/// Says what a conversion would do, without doing any of it.
///
/// # Errors
/// As of [`convert()`], before it reads the first weight.
pub fn preview(model: &Checkpoint, output: &Path, conversion: &Conversion<'_>) -> Result<Summary> {
    Ok(Plan::new(model, output, conversion)?.summary)
}

/// Converts a model: the selected weights, a tensor at a time; everything else is carried over.
///
/// A file becomes a file. A folder becomes a folder, with the same shards and an index of its own, with config.json
/// (what it says of quantisation is replaced) and whatever else runs of the model need; or a file, if it is of one
/// and the output's name ends in `.safetensors`.
///
/// Work is done in the folder `OUTPUT.partial`, which becomes the output when it is whole and on disk. If the process
/// is killed, or `progress` returns an error, that folder stays, and the same conversion carries on from there; one
/// with other options, or of a model that has changed, is an error. After any other error it is removed, unless the
/// output could not be written and there is work to carry on from. No more memory is used than the largest tensor
/// takes before and after, and 1 GB.
///
/// # Errors
/// An output that exists, cannot be written or is the input; nothing to convert; names that would clash; what
/// [`Weights::encode`](crate::Weights::encode) refuses.
pub fn convert(
    model: &Checkpoint,
    output: &Path,
    conversion: &Conversion<'_>,
    progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
) -> Result<Summary> {
    let plan = Plan::new(model, output, conversion)?;
    let mut partial = partial::Partial::open(model, &plan, conversion)?;
    let done = work::run(model, &plan, &mut partial, progress).and_then(|()| {
        if let Some(folder) = &plan.folder {
            folder.write(&partial, &plan)?;
        }
        partial.publish(&plan, conversion.overwrite)
    });
    match done {
        Ok(()) => {
            let mut summary = plan.summary;
            summary.resumed = partial.resumed();
            Ok(summary)
        }
        Err(stop) => {
            partial.abandon(stop.keeps_work());
            Err(stop.into_error())
        }
    }
}

/// How a conversion ends before its end.
#[derive(Debug)]
enum Stop {
    /// The input is at fault: the same again would be as well.
    Input(Error),
    /// The output can't be written.
    Output(Error),
    /// The caller wants no more of it.
    Caller(Error),
}

impl Stop {
    fn keeps_work(&self) -> bool {
        !matches!(self, Self::Input(_))
    }

    fn into_error(self) -> Error {
        let (Self::Input(error) | Self::Output(error) | Self::Caller(error)) = self;
        error
    }
}
