//! Values of the keys that were used last, so that what a tab remembers cannot grow without end.

use serde::{Deserialize, Serialize};

/// Number of keys whose values are remembered: more pages than a person goes back through.
const MOST: usize = 200;

/// Values by key; of more than [`MOST`] keys, the one whose value was set longest ago is forgotten.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Recent<T>(Vec<(String, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Recent<T> {
    pub fn get(&self, key: &str) -> Option<&T> {
        self.0.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    pub fn put(&mut self, key: String, value: T) {
        self.0.retain(|(known, _)| *known != key);
        self.0.push((key, value));
        if self.0.len() > MOST {
            self.0.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_counts_and_the_oldest_keys_are_forgotten() {
        let mut recent = Recent::default();
        for n in 0..MOST {
            recent.put(n.to_string(), n);
        }
        recent.put("0".into(), 1_000);
        recent.put("new".into(), 7);
        assert_eq!(recent.get("0"), Some(&1_000));
        assert_eq!(recent.get("1"), None, "set longest ago");
        assert_eq!((recent.get("2"), recent.get("new")), (Some(&2), Some(&7)));
        let text = serde_json::to_string(&recent).unwrap();
        assert_eq!(serde_json::from_str::<Recent<usize>>(&text).unwrap(), recent);
    }
}
