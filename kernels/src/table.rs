//! The table as kernels want it: 256 floats, their bytes as planes, and what is special about them.

/// How many of the top bytes of every entry are needed to represent the table exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planes {
    /// Every entry is exact in bf16 (FP8, small integers).
    Two,
    /// Every entry has a zero lowest byte.
    Three,
    /// Anything.
    Four,
}

/// A formula that gives all finite entries of a table, so that no lookup is needed.
///
/// Found by comparing all 256 entries, never by trusting a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedForm {
    /// `max(c, 1) − 1`: QINS linear.
    Magnitude,
    /// `(c ^ flip) as i8`: int8 two's complement (`flip` 0) and biased by 128 (`flip` 0x80).
    Signed {
        /// What the code is xored with.
        flip: u8,
    },
    /// OCP FP8 E4M3 (FN), apart from its two NaN codes.
    E4m3,
    /// OCP FP8 E5M2: the top byte of an f16, NaN and infinity included.
    E5m2,
}

/// A 256-entry table prepared for kernels: 2 KiB and a little, made once a layer.
///
/// At least one entry is finite: [`Table::new`] refuses other tables, because kernels pad the tail
/// of a row with a code whose entry times zero is zero.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Table {
    /// `planes[p][c]` is byte p of entry c, p = 3 being sign and exponent.
    pub planes: [[u8; 256]; 4],
    /// The entries.
    pub values: [f32; 256],
    /// Bytes needed of each entry.
    pub needed: Planes,
    /// Whether entry `c | 0x80` is entry `c` with the sign bit flipped, for all c < 128; the sign of a
    /// NaN doesn't count.
    pub sign_magnitude: bool,
    /// A formula for the finite entries.
    pub closed_form: Option<ClosedForm>,
    /// Whether the formula also gives the entries that are not finite.
    pub closed_form_total: bool,
    /// The code with the smallest finite magnitude: what large scales make infinite last of all, so that
    /// padding stays zero when multiplied by zero.
    pub pad: u8,
}

impl Table {
    /// Prepares a table; `None` if no entry is finite.
    pub fn new(values: &[f32; 256]) -> Option<Self> {
        let finite = (0..=u8::MAX).filter(|c| values[usize::from(*c)].is_finite());
        let magnitude = |c: &u8| values[usize::from(*c)].abs();
        let pad = finite.min_by(|a, b| magnitude(a).total_cmp(&magnitude(b)))?;
        let bits = values.map(f32::to_bits);
        let mut planes = [[0; 256]; 4];
        for (p, plane) in planes.iter_mut().enumerate() {
            for (byte, entry) in plane.iter_mut().zip(&bits) {
                *byte = entry.to_le_bytes()[p];
            }
        }
        let needed = match bits.iter().fold(0, |all, b| all | b) {
            all if all & 0xFFFF == 0 => Planes::Two,
            all if all & 0xFF == 0 => Planes::Three,
            _ => Planes::Four,
        };
        let sign_magnitude = (0..128).all(|c| {
            bits[c | 0x80] == bits[c] ^ 0x8000_0000
                || values[c].is_nan() && values[c | 0x80].is_nan()
        });
        let gives = |form: ClosedForm, total: bool| {
            values.iter().zip(0..=u8::MAX).all(|(v, c)| {
                form.entry(c).to_bits() == v.to_bits()
                    || if total { form.entry(c).is_nan() && v.is_nan() } else { !v.is_finite() }
            })
        };
        let closed_form = ClosedForm::ALL.into_iter().find(|form| gives(*form, false));
        Some(Self {
            planes,
            values: *values,
            needed,
            sign_magnitude,
            closed_form,
            closed_form_total: closed_form.is_some_and(|form| gives(form, true)),
            pad,
        })
    }
}

impl ClosedForm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Magnitude,
        Self::Signed { flip: 0 },
        Self::Signed { flip: 0x80 },
        Self::E4m3,
        Self::E5m2,
    ];

    /// Whether the formula is for weights with a plane of signs, or without: such a plane goes with magnitudes.
    /// No checkpoint has the other pairs; they are looked up, so that kernels need no code for them.
    pub(crate) fn suits(self, signed: bool) -> bool {
        signed == matches!(self, Self::Magnitude)
    }

    /// What codes of signed integers are xored with.
    pub(crate) fn flip(form: Option<Self>) -> u8 {
        match form {
            Some(Self::Signed { flip }) => flip,
            _ => 0,
        }
    }

    /// The entry as an integer, if the formula gives integers.
    pub(crate) fn integer(self, c: u8) -> Option<i32> {
        match self {
            Self::Magnitude => Some(i32::from(c.max(1) - 1)),
            Self::Signed { flip } => Some(i32::from((c ^ flip) as i8)),
            Self::E4m3 | Self::E5m2 => None,
        }
    }

    /// What the formula gives for a code; the two NaN codes of E4M3 give ±480.
    pub fn entry(self, c: u8) -> f32 {
        match self {
            Self::Magnitude => f32::from(c.max(1) - 1),
            Self::Signed { flip } => f32::from((c ^ flip) as i8),
            Self::E4m3 => small_float(c, 4, 7),
            Self::E5m2 => small_float(c, 5, 15),
        }
    }
}

/// The value of a sign, `exponent_bits`, mantissa byte with the given bias and gradual underflow.
/// With five exponent bits the largest exponent means infinity or NaN, as in IEEE 754.
fn small_float(c: u8, exponent_bits: u32, bias: i32) -> f32 {
    let mantissa_bits = 7 - exponent_bits;
    let exponent = i32::from((c & 0x7F) >> mantissa_bits);
    let mantissa = f32::from(c & ((1 << mantissa_bits) - 1));
    let one = f32::from(1u8 << mantissa_bits);
    let power = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
    let magnitude = if exponent == 0 {
        mantissa / one * power(1 - bias)
    } else if exponent_bits == 5 && exponent == 31 {
        if mantissa == 0.0 { f32::INFINITY } else { f32::NAN }
    } else {
        (1.0 + mantissa / one) * power(exponent - bias)
    };
    if c & 0x80 == 0 { magnitude } else { -magnitude }
}
