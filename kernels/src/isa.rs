//! Instruction sets: tokens that prove CPU features, and the one place where a loop gets compiled with them.

/// A CPU feature, and how it is found.
pub(crate) struct Feature {
    /// As Rust names it.
    pub name: &'static str,
    /// Whether this CPU has it.
    pub detected: fn() -> bool,
}

/// A proof of CPU features: a value exists only where they were found.
///
/// # Safety
/// [`Isa::run`] runs tasks with just the features of [`Isa::FEATURES`].
pub(crate) unsafe trait Isa: Copy + 'static {
    /// What it proves.
    const FEATURES: &'static [Feature];

    /// The token.
    ///
    /// # Safety
    /// This CPU has all [`Isa::FEATURES`].
    unsafe fn assume() -> Self;

    /// Runs a loop that is compiled for these features, as a function of its own: with anything around it the
    /// compiler has other values in registers, and sums in memory.
    fn run<T: Task<Self>>(self, task: T);
}

/// A loop and what it works on.
///
/// `run`, and all that it calls, is `#[inline(always)]`, so that it becomes part of the function with the
/// features. Closures and `array::from_fn` are functions without them: plain loops only.
pub(crate) trait Task<I> {
    fn run(self, isa: I);
}

/// Makes a token out of a list of features.
macro_rules! isa {
    ($(#[$doc:meta])* $token:ident: $($feature:tt),*) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $token(());

        // SAFETY: the shell below has the features of the list, and no others.
        unsafe impl crate::isa::Isa for $token {
            const FEATURES: &'static [crate::isa::Feature] = &[
                $(crate::isa::Feature { name: $feature, detected: || pulp::feature_detected!($feature) }),*
            ];

            unsafe fn assume() -> Self {
                Self(())
            }

            #[inline(always)]
            fn run<T: crate::isa::Task<Self>>(self, task: T) {
                $(#[target_feature(enable = $feature)])*
                #[inline(never)]
                fn shell<T: crate::isa::Task<$token>>(isa: $token, task: T) {
                    task.run(isa);
                }
                // SAFETY: a token exists only where its features were found (`assume`).
                #[allow(unused_unsafe, reason = "where the list is empty")]
                unsafe {
                    shell(self, task);
                }
            }
        }
    };
}
pub(crate) use isa;

/// Associated functions that may use what a token proves. Their bodies are compiled with the features named, so
/// intrinsics are safe in them, and rustc rejects one that the features don't cover. `name[P]` says that the body uses
/// the constant P of its `impl`.
macro_rules! with_features {
    ($enable:literal; $(
        $(#[$doc:meta])*
        fn $name:ident $(<const $p:ident: usize>)? $([$q:ident])? (
            $isa:ident: $token:ty $(, $arg:ident: $type:ty)* $(,)?
        ) $(-> $out:ty)? $body:block
    )*) => { $(
        $(#[$doc])*
        #[inline(always)]
        fn $name $(<const $p: usize>)? ($isa: $token $(, $arg: $type)*) $(-> $out)? {
            #[target_feature(enable = $enable)]
            #[inline]
            fn inner $(<const $p: usize>)? $(<const $q: usize>)? ($($arg: $type),*) $(-> $out)? $body
            let _ = $isa;
            // SAFETY: the token exists, so its features do: those of the trait that the type of `$isa` has.
            unsafe { inner $(::<$p>)? $(::<$q>)? ($($arg),*) }
        }
    )* };
}
pub(crate) use with_features;
