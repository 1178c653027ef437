//! Workspaces: how to multiply, and what is needed for it.

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, TryLockError};

use lutmul::{
    Activations, Context, Element, MAX_THREADS, Mode, Needs, Options, Threads as Policy, Unaligned,
};

use crate::call::{Caller, call};
use crate::handle::Kind;
use crate::kernel::{self, lutmul_kernel};
use crate::sized::SizedStruct;
use crate::status::*;
use crate::threads::Threads;
use crate::weights::lutmul_weights;

/// How a workspace multiplies. All zeros but `size` are the defaults; NULL in place of the struct, too.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_options {
    /// The sizeof of this struct.
    pub size: usize,
    /// The name of the kernel; NULL: what the environment variable LUTMUL_ISA names, or else the best that
    /// this CPU can run.
    pub kernel: *const c_char,
    /// The mode: "f32" (NULL, too), "bf16", "a24", "a16", "a8" or "a8t".
    pub mode: *const c_char,
    /// Threads of the workspace's own, which lutmul_matmul and lutmul_matmul_packed hand their work to. 0 or
    /// 1: none; the calling thread does it all. At most 1024.
    pub threads: usize,
}

// SAFETY: as the trait asks.
unsafe impl SizedStruct for lutmul_options {}

/// Options, and how many threads they ask for.
fn parse(c: &Caller, from: *const lutmul_options) -> Result<(Options, usize)> {
    let (mut name, mut mode, mut threads) = (None, Mode::F32, 1);
    if !from.is_null() {
        let options = c.read_sized(from, "options")?;
        name = c.optional_text(options.kernel, "options.kernel")?;
        if let Some(name) = c.optional_text(options.mode, "options.mode")? {
            mode = name.parse().of("options.mode")?;
        }
        threads = options.threads.max(1);
        if threads > MAX_THREADS {
            let why = format!("{threads} are more than {MAX_THREADS} (a negative number?)");
            return Err(Failure::new(LUTMUL_VALUE, "options.threads", why));
        }
    }
    let kernel = kernel::find(name).of("options.kernel")?;
    let options = Options::new().with_kernel(kernel).with_mode(mode).with_threads(Policy::One);
    Ok((options, threads))
}

/// How to multiply (kernel, mode, threads), and memory for it. One call at a time may use a workspace; a
/// second one is refused with LUTMUL_BUSY.
///
/// Its threads are those of the process that made it. In a child that was forked later, its calls do all work on
/// the calling thread, with the same results; what is to have threads there is made there.
pub struct lutmul_workspace {
    options: Options,
    threads: Option<Threads>,
    memory: Mutex<Memory>,
}

impl Kind for lutmul_workspace {
    const NAME: &'static str = "lutmul_workspace";
}

/// What products write to beside y.
pub(crate) struct Memory {
    reserved: Needs,
    pub activations: Activations,
    pub own: Own,
}

/// What a product needs whose x is packed.
pub(crate) struct Own {
    /// Of the calling thread.
    pub alone: Context,
    /// Of the workspace's threads, if it has some.
    pub threads: Context,
    /// For copies of biases that are not aligned.
    pub bias: Vec<f32>,
}

impl lutmul_workspace {
    fn new(options: Options, threads: usize) -> Result<Self> {
        let threads = match threads {
            1 => None,
            count => Some(Threads::new(count).map_err(|error| {
                let why = format!("{count} threads cannot be had: {error}");
                Failure::new(LUTMUL_RESOURCES, "options.threads", why)
            })?),
        };
        let alone = options.into();
        let own = Own { alone, threads: Context::default(), bias: Vec::new() };
        let memory = Memory { reserved: Needs::default(), activations: Activations::new(), own };
        Ok(Self { options, threads, memory: Mutex::new(memory) })
    }

    /// Takes the workspace for one call.
    pub(crate) fn take(&self) -> Result<MutexGuard<'_, Memory>> {
        match self.memory.try_lock() {
            Ok(memory) => Ok(memory),
            // What a panic leaves behind is only scratch.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(Failure::new(LUTMUL_BUSY, "workspace", "is in use by another call"))
            }
        }
    }

    /// The workspace's threads, if it has some, in this process.
    fn threads(&self) -> Option<&Threads> {
        self.threads.as_ref().filter(|threads| threads.are_here())
    }

    /// How products are computed that its threads do, or the calling one where there are none.
    pub(crate) fn options(&self) -> Options {
        let policy = if self.threads().is_some() { Policy::Rayon } else { Policy::One };
        self.options.with_threads(policy)
    }

    /// Does work on the workspace's threads, or on this one alone if there are none.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self.threads() {
            Some(threads) => threads.run(work),
            None => Policy::One.install(work),
        }
    }

    /// Refuses threads whose arithmetic is not what integer modes promise.
    pub(crate) fn check_environment(&self) -> Result<()> {
        let mode = self.options.mode;
        if !mode.is_integer() {
            return Ok(());
        }
        lutmul::check_environment().map_err(|error| {
            let why = format!("mode {mode} is refused: {error}");
            Failure::new(LUTMUL_ENVIRONMENT, "workspace", why)
        })
    }
}

/// Does work on a workspace's threads, or on this one alone if the pointer is NULL.
pub(crate) fn run<R: Send>(
    c: &Caller,
    workspace: *const lutmul_workspace,
    work: impl FnOnce() -> Result<R> + Send,
) -> Result<R> {
    if workspace.is_null() {
        return Policy::One.install(work);
    }
    let workspace = c.get(workspace, "workspace")?;
    let _taken = workspace.take()?;
    workspace.run(work)
}

impl Memory {
    /// Refuses products that need more than is reserved.
    pub fn check(&self, needs: Needs) -> Result<()> {
        check("workspace", self.reserved, needs)
    }

    /// On the workspace's threads, whose number tells how many need scratch.
    fn reserve(&mut self, needs: Needs, n: usize, options: Options) -> Result<()> {
        let most = self.reserved.and(needs);
        self.activations.reserve(most).of("workspace")?;
        let Own { alone, threads, bias } = &mut self.own;
        alone.reserve(most.only_scratch()).of("workspace")?;
        if options.threads != Policy::One {
            threads.options = options;
            threads.reserve(most.only_scratch()).of("workspace")?;
        }
        bias.clear();
        bias.try_reserve(n).map_err(|e| Failure::new(LUTMUL_RESOURCES, "workspace", e))?;
        self.reserved = most;
        Ok(())
    }
}

/// Refuses products that need more than there is.
pub(crate) fn check(argument: &str, reserved: Needs, needs: Needs) -> Result<()> {
    if reserved.cover(needs) {
        return Ok(());
    }
    let bytes =
        |n: Needs| format!("{} bytes for x and {} for a thread", n.activations(), n.scratch());
    let why = format!("has {}; this needs {}. Reserve them before", bytes(reserved), bytes(needs));
    Err(Failure::new(LUTMUL_TOO_SMALL, argument, why))
}

/// A bias as floats: as it lies, or a copy if it is not aligned.
pub(crate) fn aligned<'a>(bias: &'a [Unaligned<f32>], copy: &'a mut Vec<f32>) -> Result<&'a [f32]> {
    if let Some(aligned) = Unaligned::as_f32(bias) {
        return Ok(aligned);
    }
    if copy.capacity() < bias.len() {
        let why = "has no memory for a copy of the bias, which is not aligned. Reserve it before";
        return Err(Failure::new(LUTMUL_TOO_SMALL, "workspace", why));
    }
    copy.clear();
    copy.extend(bias.iter().map(|b| b.0));
    Ok(copy)
}

/// Makes a workspace, with its threads but without memory yet: see lutmul_workspace_reserve.
///
/// options may be NULL. What it points to is not needed afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_workspace_create(
    options: *const lutmul_options,
    workspace: *mut *mut lutmul_workspace,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_workspace_create", |c| {
            let out = c.out(workspace, "workspace")?;
            let (options, threads) = parse(c, options)?;
            out.set(lutmul_workspace::new(options, threads)?);
            Ok(())
        })
    }
}

/// Tells how many bytes lutmul_workspace_reserve would reserve in a new workspace with these options, for
/// products of up to max_tokens rows of x with these weights.
///
/// activations gets the bytes of packed x, scratch those of the calling thread and the workspace's own; either
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_workspace_size(
    options: *const lutmul_options,
    weights: *const lutmul_weights,
    max_tokens: usize,
    activations: *mut usize,
    scratch: *mut usize,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_workspace_size", |c| {
            let (options, threads) = parse(c, options)?;
            let weights = &c.get(weights, "weights")?.0;
            let needs = Needs::up_to(weights, max_tokens, &options).of("max_tokens")?;
            if !activations.is_null() {
                c.write(activations, needs.activations(), "activations")?;
            }
            if !scratch.is_null() {
                let threads = if threads == 1 { 1 } else { threads + 1 };
                c.write(scratch, needs.scratch().saturating_mul(threads), "scratch")?;
            }
            Ok(())
        })
    }
}

/// Reserves memory for products of up to max_tokens rows of x with these weights, and with all that need no
/// more: they allocate nothing. May be called again for other weights; what was reserved before stays.
///
/// Products that need more than is reserved are refused with LUTMUL_TOO_SMALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_workspace_reserve(
    workspace: *mut lutmul_workspace,
    weights: *const lutmul_weights,
    max_tokens: usize,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_workspace_reserve", |c| {
            reserve(c, workspace, weights, max_tokens, |needs| needs)
        })
    }
}

/// Reserves only what lutmul_matmul_packed and lutmul_matmul_rows need, whose x is packed elsewhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_workspace_reserve_scratch(
    workspace: *mut lutmul_workspace,
    weights: *const lutmul_weights,
    max_tokens: usize,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_workspace_reserve_scratch", |c| {
            reserve(c, workspace, weights, max_tokens, Needs::only_scratch)
        })
    }
}

fn reserve(
    c: &Caller,
    workspace: *mut lutmul_workspace,
    weights: *const lutmul_weights,
    max_tokens: usize,
    part: fn(Needs) -> Needs,
) -> Result<()> {
    let workspace = c.get(workspace, "workspace")?;
    let weights = &c.get(weights, "weights")?.0;
    let needs = Needs::up_to(weights, max_tokens, &workspace.options()).of("max_tokens")?;
    let (memory, options) = (&mut *workspace.take()?, workspace.options());
    workspace.run(|| memory.reserve(part(needs), weights.n(), options))
}

/// Tells of the kernel that a workspace multiplies with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_workspace_kernel(
    workspace: *const lutmul_workspace,
    kernel: *mut lutmul_kernel,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_workspace_kernel", |c| {
            let used = c.get(workspace, "workspace")?.options.kernel().of("workspace")?;
            c.write_sized(kernel, lutmul_kernel::new(used.info()), "kernel")
        })
    }
}

/// Frees a workspace and ends its threads, or does nothing if it is NULL. No call may be using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_workspace_free(workspace: *mut lutmul_workspace) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe { call("lutmul_workspace_free", |c| c.free(workspace, "workspace")) }
}
