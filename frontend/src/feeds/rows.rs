//! Rows of a list that change in place: a row is identified by its key, and lives as long as the key is in the list. A
//! refresh changes texts inside of it, so that focus, selection and opened parts stay.

use std::collections::HashMap;

use leptos::prelude::*;

pub struct Rows<T: Send + Sync + 'static> {
    /// Keys of the rows, in the order of the list.
    pub keys: Memo<Vec<String>>,
    by_key: Memo<HashMap<String, T>>,
}

impl<T: Send + Sync + 'static> Clone for Rows<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync + 'static> Copy for Rows<T> {}

/// Rows of `list`, each identified by its `key`.
pub fn rows<T>(list: impl Fn() -> Vec<T> + Send + Sync + 'static, key: fn(&T) -> String) -> Rows<T>
where
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let list = Memo::new(move |_| list());
    let keys = Memo::new(move |_| list.with(|list| list.iter().map(key).collect()));
    let by_key = Memo::new(move |_| list.with(|list| list.iter().map(|it| (key(it), it.clone())).collect()));
    Rows { keys, by_key }
}

impl<T: Clone + Default + PartialEq + Send + Sync + 'static> Rows<T> {
    /// Data of the row with this key; the last known data once the key has left the list.
    pub fn row(self, key: String) -> Memo<T> {
        Memo::new(move |before: Option<&T>| {
            let now = self.by_key.try_with(|all| all.get(&key).cloned()).flatten();
            now.or_else(|| before.cloned()).unwrap_or_default()
        })
    }
}
