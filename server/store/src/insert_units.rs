//! Insertion of the units of many callers in one transaction, independent of each other.

use async_trait::async_trait;

use crate::{
    error::{StoreError, StoreResult},
    prepare::with_empty_hand_offs,
    types::{HandOff, Inserted, Unit, UnitAnswer},
};

/// A driver's transaction that stores units.
#[async_trait]
pub trait InsertGroup: Sync {
    /// Stores a group of units in one transaction. `None` if a unit was decided by the key of another one that is
    /// refused: the group must then be stored unit by unit.
    async fn insert_group(&self, units: &[Unit], offers: &[HandOff]) -> StoreResult<Option<Inserted>>;
}

/// Stores units in one transaction or, if that cannot be, each in its own, so that a refused unit does not affect the
/// others.
pub async fn insert_units(store: &impl InsertGroup, units: &[Unit], offers: &[HandOff]) -> StoreResult<Inserted> {
    match store.insert_group(units, offers).await {
        Ok(Some(inserted)) => return Ok(inserted),
        Err(StoreError::Data(text)) if units.len() == 1 => {
            return Ok(with_empty_hand_offs(vec![UnitAnswer::Refused(text)], offers));
        }
        Ok(None) | Err(StoreError::Data(_)) => {}
        Err(error) => return Err(error),
    }
    let mut answers = Vec::with_capacity(units.len());
    for unit in units.chunks(1) {
        match store.insert_group(unit, &[]).await {
            Ok(group) => answers.extend(group.unwrap_or_default().answers),
            Err(StoreError::Data(text)) => answers.push(UnitAnswer::Refused(text)),
            Err(error) => return Err(error),
        }
    }
    Ok(with_empty_hand_offs(answers, offers))
}
