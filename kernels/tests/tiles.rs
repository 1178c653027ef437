//! Matrix tiles: exact sums by themselves, on many threads at once, beside a foreign configuration and in processes that
//! fork, and what happens where the system does not permit them.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod support;

use std::arch::asm;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::AtomicU8;

use lutmul_kernels::int::Weights;
use lutmul_kernels::int::tiles::{
    ROWS, STEP, TILE, TOKENS, TilesOut, TilesScratch, TilesX, panel_len, sums_len,
};
use lutmul_kernels::{Codes, Kernel, KernelInfo, QuantisedTable, Table};
use support::Numbers;

const NAME: &str = "amx";

/// The kernel with tiles, if CPU and system allow it; where they don't, says so.
fn kernel() -> Option<Kernel> {
    let info = KernelInfo::all().find(|info| info.name() == NAME).expect("it is in the table");
    let kernel = info.kernel();
    if kernel.is_none() {
        let missing: Vec<_> = info.missing().collect();
        println!("LEFT OUT, no tiles here: lacks {missing:?}, refused {:?}", info.refusal());
    }
    kernel
}

/// Tables of one pass, two halves, two sums, three planes with two sums, and three sums; and whether there are signs.
fn tables() -> Vec<(QuantisedTable, bool)> {
    let of = |entry: &dyn Fn(u8) -> f32| {
        let table = Table::new(&std::array::from_fn(|c| entry(c as u8))).expect("a table");
        QuantisedTable::new(&table, 3)
    };
    let ramp = |largest: f32| move |c: u8| (largest * f32::from(c as i8) / 128.0).trunc();
    vec![
        (of(&|c| f32::from(c as i8)), false),
        (of(&|c| f32::from((c ^ 0x80) as i8)), false),
        (of(&|c| f32::from(c.max(1) - 1)), true),
        (of(&ramp(127.0)), true),
        (of(&ramp(30_001.0)), false),
        (of(&ramp(57_345.0)), true),
        (of(&|c| f32::from(c & 127) * 448.0 * if c < 128 { 1.0 } else { -1.0 }), false),
        (of(&ramp(8_000_001.0)), false),
    ]
}

/// How many of a random product's outputs are wrong.
fn check(kernel: Kernel, numbers: &mut Numbers, table: &QuantisedTable, signed: bool) -> usize {
    let (rows, tokens) = (1 + numbers.below(ROWS), 1 + numbers.below(50));
    let (groups, digits) = (1 + numbers.below(3), 1 + numbers.below(3));
    let group = STEP * (1 + numbers.below(20));
    let k = group * (groups - 1) + 1 + numbers.below(group);
    let mut pick = |n: usize| if numbers.below(4) == 0 { n - 1 } else { numbers.below(n) };
    let codes: Vec<u8> = (0..rows * k).map(|_| pick(256) as u8).collect();
    let signs: Vec<u8> = (0..rows * k.div_ceil(8)).map(|_| pick(256) as u8).collect();
    let x: Vec<i8> = (0..tokens * digits * k).map(|_| (pick(255) as i32 - 127) as i8).collect();

    let (steps, tiles) = (k.div_ceil(STEP), tokens.div_ceil(TOKENS) * digits);
    let mut packed = vec![0i8; tiles * steps * TILE];
    for (token, digit, col) in
        (0..tokens).flat_map(|t| (0..digits).flat_map(move |d| (0..k).map(move |c| (t, d, c))))
    {
        let (tile, step) = (token / TOKENS * digits + digit, col / STEP);
        let at = match tile + 1 == tiles && tiles % 2 == 1 {
            true => tile * steps + step,
            false => (tile / 2 * steps + step) * 2 + tile % 2,
        };
        let within = col % STEP / 4 * 64 + token % TOKENS * 4 + col % 4;
        packed[at * TILE + within] = x[(token * digits + digit) * k + col];
    }
    let padded = tokens.next_multiple_of(TOKENS);
    let stride = ROWS + numbers.below(9);
    let mut to = vec![f32::NAN; padded * stride];
    let planes = &table.signed;
    let w = Weights {
        codes: Codes::whole(&codes, signed.then_some(&signs[..]), k),
        table,
        group_lines: group / STEP,
    };
    assert!(kernel.tiles_from(&w).is_some());
    kernel.gemm_tiles(
        &w,
        &TilesX { x: &packed, digits, token_scales: &vec![0.5; padded] },
        &mut TilesOut {
            group,
            scales: &vec![2.0; ROWS * groups],
            bias: &[1.0; ROWS],
            to: &mut to,
            stride,
        },
        &mut TilesScratch {
            panel: &mut vec![[99; 64]; panel_len(planes.count())],
            sums: &mut vec![[99; 16]; sums_len(planes.sums.len(), tiles)],
            totals: &mut vec![99.0; padded * ROWS],
        },
    );
    let value = |row: usize, col: usize| {
        let negative = signed && signs[row * k.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1;
        let value = i64::from(table.value(codes[row * k + col]));
        if negative { -value } else { value }
    };
    let wrong = |(token, row): &(usize, usize)| {
        let sum: i64 = (0..k)
            .map(|col| {
                let digits = (0..digits).map(|d| i64::from(x[(token * digits + d) * k + col]));
                value(*row, col) * digits.fold(0, |x, digit| 255 * x + digit)
            })
            .sum();
        // Halves and twos: every rounding but the last is exact, as long as f64 holds the sum.
        to[*token * stride + *row] != (sum as f64 + 1.0) as f32
    };
    let all = (0..tokens).flat_map(|t| (0..rows).map(move |r| (t, r)));
    all.filter(wrong).count()
}

#[test]
fn tiles_are_exact() {
    let Some(kernel) = kernel() else { return };
    let mut numbers = Numbers(21);
    for (i, (table, signed)) in tables().iter().enumerate() {
        for _ in 0..30 {
            assert_eq!(check(kernel, &mut numbers, table, *signed), 0, "table {i}");
        }
    }
}

#[test]
fn threads_use_tiles_side_by_side() {
    let Some(kernel) = kernel() else { return };
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                for (table, signed) in tables() {
                    for _ in 0..4 {
                        assert_eq!(check(kernel, &mut numbers, &table, signed), 0);
                    }
                }
            });
        }
    });
}

/// Whether tiles of this thread are in use: bits 17 and 18 of XINUSE.
fn in_use() -> bool {
    let low: u32;
    // SAFETY: a kernel with tiles was found, so there are XSAVE and XGETBV with ECX = 1.
    unsafe { asm!("xgetbv", in("ecx") 1, out("eax") low, out("edx") _, options(nomem, nostack)) };
    low >> 17 & 3 != 0
}

#[test]
fn a_foreign_configuration_is_not_relied_on_and_none_is_left() {
    let Some(kernel) = kernel() else { return };
    let mut numbers = Numbers(22);
    let (table, signed) = &tables()[0];
    // One tile, of three rows of eight bytes.
    #[repr(align(64))]
    struct Config([u8; 64]);
    let mut config = Config([0; 64]);
    (config.0[0], config.0[16], config.0[48]) = (1, 8, 3);
    // SAFETY: tiles are permitted, as the kernel was found; the block reads 64 bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack)) };
    assert!(in_use());
    assert_eq!(check(kernel, &mut numbers, table, *signed), 0);
    assert!(!in_use(), "tiles are left configured");
}

/// What children of this test do: named by a variable of the environment.
const CHILD: &str = "LUTMUL_TILES_CHILD";

/// Runs this program again, as a child that has not asked for tiles yet; what it prints must have this in it.
fn run_child(how: &str, says: &str) {
    let program = std::env::current_exe().expect("this program");
    let child = Command::new(program)
        .args(["--exact", "child", "--nocapture", "--include-ignored"])
        .env(CHILD, how)
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{how}: {text}{}", String::from_utf8_lossy(&child.stderr));
    assert!(text.contains(says), "{how}: {text}");
}

#[test]
fn where_tiles_are_refused_there_is_no_kernel_with_them() {
    if kernel().is_none() {
        return;
    }
    for (how, why) in [("seccomp", "EPERM"), ("sigaltstack", "ENOSPC"), ("none", "")] {
        run_child(how, &format!("child: {how}, refused {why:?}"));
    }
}

#[test]
fn processes_that_fork_use_tiles() {
    if kernel().is_some() {
        run_child("fork", "child: forked, its products are right");
    }
}

/// Not a test of its own: see above.
#[test]
fn child() {
    let Ok(how) = std::env::var(CHILD) else { return };
    match how.as_str() {
        "fork" => return forks(),
        "seccomp" => forbid(),
        "sigaltstack" => small_stack(),
        _ => {}
    }
    let info = KernelInfo::all().find(|info| info.name() == NAME).expect("it is in the table");
    let refusal = info.refusal().unwrap_or_default();
    let why = refusal.split(['(', ')', ',']).nth(1).unwrap_or_default();
    println!("child: {how}, refused {why:?}");
    assert_eq!(info.kernel().is_none(), how != "none");
    assert_eq!(Kernel::available().any(|kernel| kernel.name() == NAME), how == "none");
    let best = Kernel::best();
    assert_eq!(best.name() == NAME, how == "none", "{}", best.name());
}

/// Forks before this process has asked for tiles, and after its first product; products are right in all of them.
fn forks() {
    let products = |seed: u64| {
        let kernel = kernel().expect("tiles");
        let mut numbers = Numbers(seed);
        for (table, signed) in tables() {
            assert_eq!(check(kernel, &mut numbers, &table, signed), 0);
        }
        assert!(!in_use() && permitted());
    };
    assert!(!permitted(), "this process has asked already");
    in_fork(|| {
        products(31);
        in_fork(|| products(32));
    });
    assert!(!permitted(), "what a child is allowed is its own");
    products(33);
    in_fork(|| {
        assert!(permitted(), "what the parent was allowed is inherited");
        products(34);
        in_fork(|| products(35));
        products(36);
    });
    products(37);
    println!("child: forked, its products are right");
}

/// Runs some work in a child of this process, to its end, for a minute at most.
fn in_fork(work: impl FnOnce()) {
    // SAFETY: the child goes on with this one thread, and does not come back to the harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no process");
    if child == 0 {
        // SAFETY: it ends a child that hangs.
        unsafe { libc::alarm(60) };
        let failed = catch_unwind(AssertUnwindSafe(work)).is_err();
        // SAFETY: ends the child, and runs nothing of the harness's.
        unsafe { libc::_exit(failed.into()) };
    }
    let mut status = 0;
    // SAFETY: a child of ours.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child failed");
}

/// Whether this process may use tiles, by what the system says (ARCH_GET_XCOMP_PERM).
fn permitted() -> bool {
    let mut components = 0u64;
    // SAFETY: it writes one u64.
    let failed = unsafe { libc::syscall(libc::SYS_arch_prctl, 0x1022, &raw mut components) };
    assert_eq!(failed, 0);
    components >> 18 & 1 == 1
}

/// Lets the system answer EPERM to who asks for tiles.
fn forbid() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD, 0, 0, 0),
        step(EQUAL, libc::SYS_arch_prctl as u32, 0, 3),
        // The first argument's lower half.
        step(LOAD, 16, 0, 0),
        step(EQUAL, 0x1023, 0, 1),
        step(ANSWER, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        step(ANSWER, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: a filter of this process's own, as long as it says.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

/// Leaves a thread with an alternate signal stack of 2 KiB.
fn small_stack() {
    let (ready, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Atomics, because what is written to them is written through a shared reference.
        static MEMORY: [AtomicU8; 2048] = [const { AtomicU8::new(0) }; 2048];
        let ss_sp = MEMORY.as_ptr().cast_mut().cast();
        let stack = libc::stack_t { ss_sp, ss_flags: 0, ss_size: MEMORY.len() };
        // SAFETY: the memory is there for ever.
        let set = unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
        ready.send(set == 0).expect("the test waits");
        loop {
            std::thread::park();
        }
    });
    // Where the smallest stack is larger than that (it depends on the CPU), there is nothing to refuse.
    assert!(wait.recv().expect("the thread answers"), "the system takes no stack of 2 KiB");
}
