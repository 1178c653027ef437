//! The index of a model in several files: which tensor is in which of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path};

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::tensors::TensorFile;
use crate::show::{message, quoted};

/// The name of the index in a folder of shards.
pub const INDEX: &str = "model.safetensors.index.json";

/// The key of the index that says where tensors are.
const WEIGHT_MAP: &str = "weight_map";

/// An index. What it says of tensors is checked, and not kept: the files know.
#[derive(Clone)]
pub(super) struct Index {
    text: String,
    /// Whatever else is in it, for a converted model's index.
    pub others: Map<String, Value>,
}

impl Index {
    /// Reads an index, and finds the names of the shards.
    pub fn parse(text: String) -> Result<(Self, BTreeSet<String>), String> {
        let mut shards = BTreeSet::new();
        let visit = |_: &str, shard: &str| {
            if shards.contains(shard) {
                return Ok(());
            }
            let mut parts = Path::new(shard).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                let shard = quoted(shard);
                return Err(format!("{shard} is not the name of a file in its directory"));
            }
            shards.insert(shard.to_owned());
            Ok(())
        };
        let others = read(&text, visit)?;
        Ok((Self { text, others }, shards))
    }

    /// Makes sure that the index names every tensor of the shards once, and no others.
    pub fn check(&self, shards: &[(String, TensorFile)]) -> Result<(), String> {
        let mut named: Vec<Vec<bool>> =
            shards.iter().map(|(_, file)| vec![false; file.len()]).collect();
        read(&self.text, |tensor, shard| {
            let at = shards.binary_search_by(|s| s.0.as_str().cmp(shard));
            let at = at.map_err(|_| format!("{} is not open", quoted(shard)))?;
            let Some(i) = shards[at].1.find(tensor) else {
                return Err(format!("tensor {} is not in {}", quoted(tensor), quoted(shard)));
            };
            if std::mem::replace(&mut named[at][i], true) {
                return Err(format!("tensor {} is named twice", quoted(tensor)));
            }
            Ok(())
        })?;
        for ((shard, file), named) in shards.iter().zip(&named) {
            if let Some(i) = named.iter().position(|named| !named) {
                let (tensor, shard) = (quoted(file.view(i).name), quoted(shard));
                return Err(format!("names no tensor {tensor}, which is in {shard}"));
            }
        }
        Ok(())
    }

    /// The text of an index of these tensors, and of all else that is in this one.
    pub fn write(
        &self,
        bytes: usize,
        map: &BTreeMap<String, String>,
    ) -> serde_json::Result<Vec<u8>> {
        let mut index = self.others.clone();
        let metadata = index.entry("metadata").or_insert_with(|| Map::new().into());
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("total_size".into(), bytes.into());
        }
        index.insert(WEIGHT_MAP.into(), serde_json::to_value(map)?);
        serde_json::to_vec_pretty(&index)
    }
}

/// Goes through the entries of `weight_map`, and returns the others.
fn read(
    text: &str,
    entry: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<Map<String, Value>, String> {
    /// The index as a whole.
    struct Whole<F>(F);

    impl<'de, F: FnMut(&str, &str) -> Result<(), String>> Visitor<'de> for Whole<F> {
        type Value = Result<Map<String, Value>, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an index")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut others, mut tensors) = (Map::new(), None);
            while let Some(key) = map.next_key::<String>()? {
                if key != WEIGHT_MAP {
                    others.insert(key, map.next_value()?);
                } else if tensors.is_some() {
                    return Err(A::Error::custom("it has two fields `weight_map`"));
                } else {
                    tensors = Some(map.next_value_seed(Tensors(&mut self.0))?);
                }
            }
            match tensors {
                None => Err(A::Error::missing_field(WEIGHT_MAP)),
                Some(checked) => Ok(checked.map(|()| others)),
            }
        }
    }

    /// `weight_map`. What is wrong with an entry is told apart from what is no JSON.
    struct Tensors<'a, F>(&'a mut F);

    impl<'de, F: FnMut(&str, &str) -> Result<(), String>> serde::de::DeserializeSeed<'de>
        for Tensors<'_, F>
    {
        type Value = Result<(), String>;

        fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            d.deserialize_map(self)
        }
    }

    impl<'de, F: FnMut(&str, &str) -> Result<(), String>> Visitor<'de> for Tensors<'_, F> {
        type Value = Result<(), String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map from tensors to files")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
                if let Err(why) = (self.0)(&tensor, &shard) {
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    return Ok(Err(why));
                }
            }
            Ok(Ok(()))
        }
    }

    let invalid = |e: serde_json::Error| format!("is no valid index: {}", message(e));
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(Whole(entry)).map_err(invalid)?;
    json.end().map_err(invalid)?;
    read
}
