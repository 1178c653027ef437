//! One list of features makes a kernel: the token that proves them and the functions that use them.

/// Stamps the kernels of an ISA, and the entry that the kernel table lists.
///
/// The module that calls this brings the primitives into scope (see [`row_kernel`](crate::row)).
/// The features named here make both the detection token and the `#[target_feature]`s, so that
/// rustc rejects a primitive that needs a feature the token does not prove.
///
/// - `signed { NAME, … }` and `unsigned { NAME, … }`: ways to decode weights with a plane of signs and without,
///   each a constant of the module.
/// - `units { NAME x unit, … }` (optional): powers of two that decoded weights still lack.
/// - `unrolled { NAME, … }` (optional): decoders whose rows the row kernel unrolls by hand.
/// - `rows { tokens: rows x block, … }` (optional): rows side by side in the row kernel, and how many of
///   them are decoded before their products, for 1, 2, 4 and 8 tokens.
/// - `tiles { vectors x rows, … }`: the micro-kernels of the panel shape, from one vector of tokens up.
macro_rules! stamp {
    (
        $(#[$doc:meta])*
        $token:ident,
        features { $($field:ident: $feature:tt),* $(,)? }
        signed { $($signed:ident),* $(,)? }
        unsigned { $($unsigned:ident),* $(,)? }
        $(units { $($scaled:ident x $unit:literal),* $(,)? })?
        $(unrolled { $($unrolled:ident),* $(,)? })?
        $(rows { 1: $r1:literal x $b1:literal, 2: $r2:literal x $b2:literal, 4: $r4:literal x $b4:literal, 8: $r8:literal x $b8:literal })?
        tiles { $($width:literal x $height:literal),* $(,)? }
    ) => {
        pulp::simd_type! {
            $(#[$doc])*
            pub(crate) struct $token { $($field: $feature),* }
        }

        /// What decoded weights are to be multiplied with: a power of two.
        const fn unit(decoder: u8) -> f32 {
            match decoder {
                $($($scaled => $unit,)*)?
                _ => 1.0,
            }
        }

        /// Whether the rows of a line are unrolled by hand in the row kernel.
        const fn unrolled(decoder: u8) -> bool {
            let _ = decoder;
            $($(if decoder == $unrolled {
                return true;
            })*)?
            false
        }

        crate::stamp::row_blocks!($([$r1, $r2, $r4, $r8], [$b1, $b2, $b4, $b8])?);
        crate::row::row_kernel!($($feature)*);
        crate::panel::panel_kernel!($($feature)*);

        $(#[target_feature(enable = $feature)])*
        fn row(w: &Portion<'_>, x: &RowInput<'_>, out: &mut [f32], stride: usize) {
            match (decoder(w), w.signs.is_some()) {
                $(($signed, true) => row_decoder::<{ $signed }, true>(w, x, out, stride),)*
                $(($unsigned, false) => row_decoder::<{ $unsigned }, false>(w, x, out, stride),)*
                other => unreachable!("decoder {other:?}"),
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn panel(w: &Portion<'_>, lines: Range<usize>, to: &mut [PanelRow]) {
            match (decoder(w), w.signs.is_some()) {
                $(($signed, true) => panel_decoder::<{ $signed }, true>(w, lines, to),)*
                $(($unsigned, false) => panel_decoder::<{ $unsigned }, false>(w, lines, to),)*
                other => unreachable!("decoder {other:?}"),
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn tile(panel: &[PanelRow], x: &TileInput<'_>, sums: &mut TileSums<'_>) {
            match x.width / LANES {
                $($width => tile_loop::<$width, $height>(panel, x, sums),)*
                other => unreachable!("{other} vectors of tokens"),
            }
        }

        pub(crate) static ENTRY: crate::kernel::Entry = crate::kernel::Entry {
            features: &[$($feature),*],
            available: $token::is_available,
            detected: |feature| {
                let detected: &[bool] = &[$(pulp::feature_detected!($feature)),*];
                detected[feature]
            },
            lanes: LANES,
            vectors: [$($width),*].len(),
            order,
            decoder: |w| DECODERS[decoder(w) as usize],
            row,
            panel,
            tile,
        };
    };
}
pub(crate) use stamp;

/// Stamps the integer kernels of an ISA, and their entry; see [`stamp!`]. Features have no names, since there
/// is no token: pulp has none for some of them, and all that is asked of one is whether there are all.
///
/// - `signed { NAME x planes, … }` and `unsigned { … }`: ways to decode weights with a plane of signs and without,
///   for each number of planes of the image that they are for.
/// - `tiles { vectors: loop [rows, …], … }`: the micro-kernels of each loop of the panel shape, for images of
///   one, two and three planes (short groups: of one and two). Rows divide `PANEL_ROWS`.
macro_rules! int_stamp {
    (
        features { $($feature:tt),* $(,)? }
        signed { $($signed:ident x $signed_planes:literal),* $(,)? }
        unsigned { $($unsigned:ident x $unsigned_planes:literal),* $(,)? }
        tiles {
            $(
                $width:literal:
                whole [$one:literal, $two:literal, $three:literal],
                groups [$g_one:literal, $g_two:literal]
                $(, multiplied [$m_one:literal, $m_two:literal, $m_three:literal])?;
            )*
        }
    ) => {
        crate::int_row::int_row_kernel!($($feature)*);
        crate::int_panel::int_panel_kernel!($($feature)*);

        $(#[target_feature(enable = $feature)])*
        fn int_row(w: &IntPortion<'_>, x: &IntRowInput<'_>, out: &mut [i64], stride: usize) {
            match (int_decoder(w), w.image.count, w.signs.is_some()) {
                $(($signed, $signed_planes, true) => {
                    int_row_planes::<{ $signed }, true, $signed_planes>(w, x, out, stride)
                })*
                $(($unsigned, $unsigned_planes, false) => {
                    int_row_planes::<{ $unsigned }, false, $unsigned_planes>(w, x, out, stride)
                })*
                other => unreachable!("decoder {other:?}"),
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn int_panel(w: &IntPortion<'_>, panel: &mut IntPanelMut<'_>) {
            match (int_decoder(w), w.image.count, w.signs.is_some()) {
                $(($signed, $signed_planes, true) => {
                    int_panel_loop::<{ $signed }, true, $signed_planes>(w, panel)
                })*
                $(($unsigned, $unsigned_planes, false) => {
                    int_panel_loop::<{ $unsigned }, false, $unsigned_planes>(w, panel)
                })*
                other => unreachable!("decoder {other:?}"),
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn int_tile(panel: &IntPanel<'_>, planes: usize, x: &IntTileInput<'_>, to: &mut IntTileSums<'_>) {
            let shape = match () {
                () if x.limbs.form == Form::Multiplied => MULTIPLIED_TILE,
                // Three planes cannot be joined in i32, nor summed in one f64.
                () if planes > 2 => WHOLE_TILE,
                () if panel.group_steps <= SHORT_GROUP && to.ends && !to.resume => GROUPS_TILE,
                () => WHOLE_TILE,
            };
            match (x.width / INT_LANES, planes, shape) {
                $(
                    ($width, 1, WHOLE_TILE) => int_tile_loop::<$width, $one, 1, false>(panel, x, to),
                    ($width, 2, WHOLE_TILE) => int_tile_loop::<$width, $two, 2, false>(panel, x, to),
                    ($width, 3, WHOLE_TILE) => int_tile_loop::<$width, $three, 3, false>(panel, x, to),
                    ($width, 1, GROUPS_TILE) => int_groups_loop::<$width, $g_one, 1>(panel, x, to),
                    ($width, 2, GROUPS_TILE) => int_groups_loop::<$width, $g_two, 2>(panel, x, to),
                    $(
                        ($width, 1, MULTIPLIED_TILE) => {
                            int_tile_loop::<$width, $m_one, 1, true>(panel, x, to)
                        }
                        ($width, 2, MULTIPLIED_TILE) => {
                            int_tile_loop::<$width, $m_two, 2, true>(panel, x, to)
                        }
                        ($width, 3, MULTIPLIED_TILE) => {
                            int_tile_loop::<$width, $m_three, 3, true>(panel, x, to)
                        }
                    )?
                )*
                other => unreachable!("tile {other:?}"),
            }
        }

        pub(crate) static INT_ENTRY: crate::kernel::IntEntry = crate::kernel::IntEntry {
            features: &[$($feature),*],
            available: || true $(&& pulp::feature_detected!($feature))*,
            detected: |feature| {
                let detected: &[bool] = &[$(pulp::feature_detected!($feature)),*];
                detected[feature]
            },
            words: WORDS,
            lanes: INT_LANES,
            vectors: [$($width),*].len(),
            row: int_row,
            panel: int_panel,
            tile: int_tile,
            finish: int_finish,
        };
    };
}
pub(crate) use int_stamp;

/// How many rows a row kernel has side by side for 1, 2, 4 and 8 tokens, and how many of them it decodes
/// before it multiplies.
macro_rules! row_blocks {
    () => {
        crate::stamp::row_blocks!([8, 4, 4, 2], [1, 2, 2, 2]);
    };
    ($rows:expr, $decoded:expr) => {
        const ROWS: [usize; 4] = $rows;
        const DECODED: [usize; 4] = $decoded;
    };
}
pub(crate) use row_blocks;
