//! Packed activations: x made ready once, for several products.

use std::sync::{RwLock, RwLockReadGuard, TryLockError};

use lutmul::{Activations, Needs};

use crate::call::{Caller, call};
use crate::handle::Kind;
use crate::matrix::{Matrix, lutmul_matrix, with_element};
use crate::status::*;
use crate::weights::lutmul_weights;
use crate::workspace::{self, lutmul_workspace};

/// x, packed (in integer modes quantised) for a kernel and a mode. Any number of calls may multiply by it at
/// a time; none while it is being packed.
#[derive(Default)]
pub struct lutmul_activations(RwLock<Packed>);

#[derive(Default)]
pub(crate) struct Packed {
    reserved: Needs,
    pub x: Activations,
}

impl Kind for lutmul_activations {
    const NAME: &'static str = "lutmul_activations";
}

impl lutmul_activations {
    /// To multiply by.
    pub(crate) fn share(&self) -> Result<RwLockReadGuard<'_, Packed>> {
        unless_busy(self.0.try_read())
    }
}

/// A lock, or the failure that somebody else has it.
fn unless_busy<L>(lock: Result<L, TryLockError<L>>) -> Result<L> {
    match lock {
        Ok(lock) => Ok(lock),
        // What a panic leaves behind counts as not packed.
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(LUTMUL_BUSY, "activations", "are in use by another call"))
        }
    }
}

/// Makes activations without memory yet: see lutmul_activations_reserve.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_activations_create(
    activations: *mut *mut lutmul_activations,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_activations_create", |c| {
            c.out(activations, "activations")?.set(lutmul_activations::default());
            Ok(())
        })
    }
}

/// Reserves memory to pack up to max_tokens rows of x for these weights, and for all that need no more, with
/// kernel and mode of the workspace. May be called again; what was packed is gone then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_activations_reserve(
    activations: *mut lutmul_activations,
    workspace: *const lutmul_workspace,
    weights: *const lutmul_weights,
    max_tokens: usize,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_activations_reserve", |c| {
            let activations = c.get(activations, "activations")?;
            let options = &c.get(workspace, "workspace")?.options();
            let weights = &c.get(weights, "weights")?.0;
            let needs = Needs::up_to(weights, max_tokens, options).of("max_tokens")?;
            let mut packed = unless_busy(activations.0.try_write())?;
            let all = packed.reserved.and(needs.only_activations());
            packed.x.reserve(all).of("activations")?;
            packed.reserved = all;
            Ok(())
        })
    }
}

/// Packs x, [m, k], with kernel, mode and threads of the workspace: for products with these weights, and with
/// others of the same k whose table is decoded alike (those of the same format are).
///
/// x is not needed afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_activations_pack(
    activations: *mut lutmul_activations,
    workspace: *mut lutmul_workspace,
    weights: *const lutmul_weights,
    x: *const lutmul_matrix,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_activations_pack", |c| {
            let activations = c.get(activations, "activations")?;
            let workspace = c.get(workspace, "workspace")?;
            let weights = &c.get(weights, "weights")?.0;
            let x = Matrix::read(c, x, "x")?;
            workspace.check_environment()?;
            let _taken = workspace.take()?;
            let mut packed = unless_busy(activations.0.try_write())?;
            let needs = Needs::of(weights, x.rows, &workspace.options()).of("x")?;
            workspace::check("activations", packed.reserved, needs.only_activations())?;
            let to = &mut packed.x;
            workspace.run(|| pack(c, workspace, weights, &x, to))
        })
    }
}

/// Packs x. On the workspace's threads, if that is where it is called.
pub(crate) fn pack(
    c: &Caller,
    workspace: &lutmul_workspace,
    weights: &lutmul::Weights<'_>,
    x: &Matrix,
    to: &mut Activations,
) -> Result<()> {
    let options = workspace.options();
    with_element!(x.element, T => {
        to.pack(x.view::<T>(c)?, weights, &options).of("x")
    })
}

/// Frees activations, or nothing if they are NULL. No call may be using them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_activations_free(
    activations: *mut lutmul_activations,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe { call("lutmul_activations_free", |c| c.free(activations, "activations")) }
}
