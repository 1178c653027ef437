//! Buffers that begin and end exactly at pages that cannot be touched: a kernel that reads or writes
//! a byte too many dies here. What shares a page with a buffer is poison.
#![cfg(unix)]
// Only the system can make a page that cannot be touched.
#![allow(unsafe_code)]

use testing::with_signs;

use std::ptr::NonNull;

use lutmul::{Bytes, Context, MatMut, MatRef, Options, Threads, Weights};
use testing::contract::MODES;
use testing::kernels::kernels;
use testing::{FLOATS, GRANULARITIES, activations, tables};

/// Where a buffer lies between its guards.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// Right after the first guard.
    Start,
    /// Right before the last guard.
    End,
}

/// Pages between two that cannot be touched.
struct Guarded {
    map: NonNull<libc::c_void>,
    page: usize,
    /// Bytes between the guards.
    inner: usize,
}

impl Guarded {
    fn new(bytes: usize) -> Self {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let inner = bytes.next_multiple_of(page).max(page);
        let (access, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: a new mapping, which nothing else knows of.
        let map =
            unsafe { libc::mmap(std::ptr::null_mut(), inner + 2 * page, access, flags, -1, 0) };
        assert_ne!(map, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        let (access, map) = (libc::PROT_READ | libc::PROT_WRITE, NonNull::new(map).expect("pages"));
        // SAFETY: the pages between the first and the last of the mapping just made.
        let done = unsafe { libc::mprotect(map.as_ptr().byte_add(page), inner, access) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        Self { map, page, inner }
    }

    /// Everything between the guards.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `inner` bytes from the second page on are readable, writable, zeroed by the system, and
        // borrowed as long as `self` is.
        unsafe {
            let first = self.map.as_ptr().byte_add(self.page).cast();
            std::slice::from_raw_parts_mut(first, self.inner)
        }
    }

    /// Fills everything with poison, and gives room for `len` values at one end.
    fn place<T: bytemuck::Pod>(&mut self, place: Place, len: usize, poison: u8) -> &mut [T] {
        let (all, len) = (self.bytes(), len * size_of::<T>());
        all.fill(poison);
        let start = if place == Place::Start { 0 } else { all.len() - len };
        bytemuck::cast_slice_mut(&mut all[start..][..len])
    }

    /// Whether all bytes outside of the values at one end are still poison.
    fn is_poison<T>(&mut self, place: Place, len: usize, poison: u8) -> bool {
        let len = len * size_of::<T>();
        let all = self.bytes();
        let rest = if place == Place::Start { &all[len..] } else { &all[..all.len() - len] };
        rest.iter().all(|byte| *byte == poison)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own; its slices have been borrowed from it.
        unsafe { libc::munmap(self.map.as_ptr(), self.inner + 2 * self.page) };
    }
}

/// Bytes of NaN: as f32, as E4M3, as a sign plane that flips what it must not.
const POISON: u8 = 0xFF;

/// Tokens of gemv, and both sides of a tile.
const TOKENS: [usize; 7] = [1, 2, 3, 8, 9, 16, 17];

fn multiply(w: &Weights<'_>, x: &[f32], y: &mut [f32], options: &Options) {
    let m = y.len() / w.n();
    let x = MatRef::new(x, (m, w.k())).expect("x");
    let y = MatMut::new(y, (m, w.n())).expect("y");
    w.matmul(x, y, &mut Context::from(*options)).expect("a product");
}

#[test]
fn no_byte_beyond_the_buffers() {
    let mut rng = testing::rng("no_byte_beyond_the_buffers");
    let [mut for_codes, mut for_signs, mut for_x, mut for_y] =
        [0; 4].map(|_| Guarded::new(1 << 16));
    let widths = testing::thin("widths", (1..=130).collect(), 9);
    let mut count = 0;
    for (i, k) in widths.into_iter().enumerate() {
        for (j, (name, lut, signed)) in tables().into_iter().enumerate() {
            let granularity = GRANULARITIES[(i + j) % GRANULARITIES.len()];
            for (t, place) in [Place::End, Place::Start, Place::End].into_iter().enumerate() {
                let (m, n) = (TOKENS[(i + j + 3 * t) % TOKENS.len()], [1, 3, 9][(i + t) % 3]);
                let owned = testing::weights(&mut rng, (n, k), &lut, signed, granularity);
                let x = activations(&mut rng, m * k);

                let codes = for_codes.place::<u8>(place, n * k, POISON);
                codes.copy_from_slice(owned.codes());
                let signs = owned.signs().map(|from| {
                    let to = for_signs.place::<u8>(place, from.len(), POISON);
                    to.copy_from_slice(from);
                    Bytes::from(&*to)
                });
                let w = Weights::new(&*codes, (n, k), lut.clone(), owned.scales().clone())
                    .and_then(|w| with_signs(w, signs))
                    .expect("weights");
                let guarded_x = for_x.place::<f32>(place, m * k, POISON);
                guarded_x.copy_from_slice(&x);

                for kernel in kernels() {
                    // Floats every other time; integer modes, where they take these groups, in turn.
                    let (_, group) = granularity.block((n, k));
                    let integer = (i + j + t) % 2 == 1 && (group >= k || group.is_multiple_of(32));
                    let floats = FLOATS[(i + j / 2 + t) % FLOATS.len()];
                    let mode = if integer { MODES[(i + j) / 2 % MODES.len()] } else { floats };
                    let options = Options::new()
                        .with_kernel(kernel)
                        .with_threads(Threads::One)
                        .with_mode(mode);
                    let mut expected = vec![f32::NAN; m * n];
                    multiply(&owned, &x, &mut expected, &options);
                    // 0xFF is NaN: an output that is not written shows.
                    let y = for_y.place(place, m * n, POISON);
                    multiply(&w, guarded_x, y, &options);
                    count += 1;
                    let what = || {
                        format!(
                            "{}, {name}, {granularity}, {mode}, {m}×{n}×{k}, {place:?}",
                            kernel.name()
                        )
                    };
                    assert!(y.iter().all(|y| y.is_finite()), "{}", what());
                    assert_eq!(y, expected, "{}", what());
                    assert!(for_y.is_poison::<f32>(place, m * n, POISON), "{}", what());
                }
            }
        }
    }
    println!("{count} products");
}
