//! The formats by name: a choice of table and sign plane.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::lut::Lut;

/// A weight format: which table, and whether there is a sign plane.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// QINS linear: magnitudes on a uniform grid, with a sign plane (9 bits a weight).
    QinsLinear,
    /// QINS log, inverted: magnitudes on a geometric grid, with a sign plane (9 bits).
    QinsLog,
    /// QINS inverse, the failed encoding of the source document (9 bits).
    QinsInverse,
    /// k-means (Lloyd–Max) on values, without a sign plane (8 bits).
    KMeans,
    /// k-means (Lloyd–Max) on magnitudes, with a sign plane (9 bits).
    KMeansSigned,
    /// OCP FP8 E4M3 (8 bits).
    E4m3,
    /// OCP FP8 E5M2 (8 bits).
    E5m2,
    /// AMD's FP8 E4M3, FNUZ (8 bits).
    E4m3Fnuz,
    /// AMD's FP8 E5M2, FNUZ (8 bits).
    E5m2Fnuz,
    /// int8, two's complement (8 bits).
    Int8,
    /// A table of the caller's own: with a sign plane if no entry is negative, else without.
    Table(Lut),
}

impl Format {
    /// The formats that have a name.
    pub const NAMED: [Self; 10] = [
        Self::QinsLinear,
        Self::QinsLog,
        Self::QinsInverse,
        Self::KMeans,
        Self::KMeansSigned,
        Self::E4m3,
        Self::E5m2,
        Self::E4m3Fnuz,
        Self::E5m2Fnuz,
        Self::Int8,
    ];

    /// The name that options, JSON, files and documents use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::QinsLinear => "qins-linear",
            Self::QinsLog => "qins-log",
            Self::QinsInverse => "qins-inverse",
            Self::KMeans => "kmeans",
            Self::KMeansSigned => "kmeans-signed",
            Self::E4m3 => "e4m3",
            Self::E5m2 => "e5m2",
            Self::E4m3Fnuz => "e4m3-fnuz",
            Self::E5m2Fnuz => "e5m2-fnuz",
            Self::Int8 => "int8",
            Self::Table(_) => "table",
        }
    }

    /// Whether weights have a sign plane beside their codes.
    pub fn has_signs(&self) -> bool {
        match self {
            Self::QinsLinear | Self::QinsLog | Self::QinsInverse | Self::KMeansSigned => true,
            Self::KMeans | Self::E4m3 | Self::E5m2 => false,
            Self::E4m3Fnuz | Self::E5m2Fnuz | Self::Int8 => false,
            Self::Table(lut) => lut.values().iter().all(|v| *v >= 0.0 || v.is_nan()),
        }
    }

    /// The table, of a format for which it does not depend on the weights: neither `qins-log` nor k-means.
    pub fn lut(&self) -> Option<Lut> {
        match self {
            Self::QinsLinear => Some(Lut::qins_linear()),
            Self::QinsInverse => Lut::qins_inverse(256.0).ok(),
            Self::E4m3 => Some(Lut::e4m3()),
            Self::E5m2 => Some(Lut::e5m2()),
            Self::E4m3Fnuz => Some(Lut::e4m3_fnuz()),
            Self::E5m2Fnuz => Some(Lut::e5m2_fnuz()),
            Self::Int8 => Some(Lut::int8()),
            Self::Table(lut) => Some(lut.clone()),
            Self::QinsLog | Self::KMeans | Self::KMeansSigned => None,
        }
    }

    /// Bits a weight, scales and table left aside.
    pub fn bits(&self) -> u32 {
        8 + u32::from(self.has_signs())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::NAMED.into_iter().find(|f| f.name() == name).ok_or_else(|| Error::Unknown {
            what: "format",
            got: name.into(),
            known: Self::NAMED.map(|f| f.name()).join(", "),
        })
    }
}
