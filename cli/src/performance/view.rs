//! A record from the side that page and pictures show: codings by modes by tokens.

use std::collections::BTreeSet;

use super::record::{Product, Record};

/// A product of somebody else.
pub struct Other<'a> {
    pub name: &'a str,
    pub m: usize,
    pub threads: usize,
    pub gflops: f64,
    pub error: f64,
}

impl Record {
    /// Lutmul's own by the kernel that was named first, which tables and pictures show.
    pub fn own(&self) -> impl Iterator<Item = &Product> {
        let kernels = self.kernels();
        self.all().filter(move |product| product.kernel.as_deref() == kernels.first().copied())
    }

    /// Lutmul's own by all kernels.
    fn all(&self) -> impl Iterator<Item = &Product> {
        self.products.iter().filter(|product| product.peer.is_none())
    }

    /// Numbers of threads, from the fewest.
    pub fn threads(&self) -> Vec<usize> {
        self.own().map(|product| product.threads).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What pictures show.
    pub fn fewest_threads(&self) -> usize {
        self.threads().first().copied().unwrap_or(1)
    }

    /// Numbers of tokens with so many threads, from the fewest.
    pub fn tokens(&self, threads: usize) -> Vec<usize> {
        let own = self.own().filter(|product| product.threads == threads);
        own.map(|product| product.m).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What lutmul's products differ in beside mode, tokens and threads, in the order in which they were measured.
    pub fn codings(&self) -> Vec<String> {
        unique(self.own().map(|product| self.coding(product)))
    }

    /// Modes in the order in which they were measured.
    pub fn modes(&self) -> Vec<&str> {
        unique(self.own().map(|product| &product.mode[..]))
    }

    /// Kernels, in the order in which they were named.
    pub fn kernels(&self) -> Vec<&str> {
        unique(self.all().filter_map(|product| product.kernel.as_deref()))
    }

    /// How many times as fast a product is as the same by another kernel.
    pub fn times_as_fast(&self, product: &Product, kernel: &str) -> Option<f64> {
        let mut of_kernel = self.all().filter(|other| other.kernel.as_deref() == Some(kernel));
        let same = |other: &&Product| {
            (&other.mode, other.m, other.threads) == (&product.mode, product.m, product.threads)
                && self.coding(other) == self.coding(product)
        };
        Some(of_kernel.find(same)?.seconds_best / product.seconds_best)
    }

    /// Shapes.
    pub fn shapes(&self) -> Vec<(usize, usize)> {
        unique(self.own().map(|product| (product.n, product.k)))
    }

    /// Pages.
    pub fn pages(&self) -> Vec<&str> {
        unique(self.own().map(|product| &product.pages[..]))
    }

    /// A product's format, and what else it takes to tell it from the others.
    pub fn coding(&self, product: &Product) -> String {
        let mut words = vec![product.format.clone()];
        words.extend((product.scales != "row").then(|| product.scales.clone()));
        words.extend((self.pages().len() > 1).then(|| product.pages.clone()));
        words.extend((self.shapes().len() > 1).then(|| format!("{}×{}", product.n, product.k)));
        words.join(", ")
    }

    /// A product of lutmul's.
    pub fn product(&self, coding: &str, mode: &str, m: usize, threads: usize) -> Option<&Product> {
        let of_mode = |product: &&Product| {
            product.mode == mode && product.m == m && product.threads == threads
        };
        self.own().filter(of_mode).find(|product| self.coding(product) == coding)
    }

    /// Products of others with the shape that pictures show, the first one.
    pub fn others(&self) -> Vec<Other<'_>> {
        let shape = self.shapes().first().copied();
        let peers = self.products.iter().filter(|product| Some((product.n, product.k)) == shape);
        let mut others: Vec<_> = peers
            .filter_map(|product| {
                Some(Other {
                    name: product.peer.as_deref()?,
                    m: product.m,
                    threads: product.threads,
                    gflops: product.gflops,
                    error: product.product_rel_rms_error,
                })
            })
            .collect();
        let beside = self.beside.iter().filter(|beside| Some((beside.n, beside.k)) == shape);
        let products = beside.flat_map(|beside| &beside.products);
        let products = products.filter(|product| !product.product.starts_with("lutmul"));
        others.extend(products.map(|product| Other {
            name: &product.product,
            m: product.tokens,
            threads: 1,
            gflops: product.best_gflops,
            error: product.error,
        }));
        others
    }
}

/// Each once, in the order of their first places.
pub fn unique<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}
