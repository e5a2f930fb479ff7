//! Settlements of many callers in one transaction, none at its neighbours' cost.

use super::{SettleAnswer, Settlement, Store, StoreError, StoreResult, leaving::is_of_some_rows};

/// Settles a group; one answer an item, in order. When the database refuses the data of some, each item is settled by
/// itself, and only the refused ones are answered [`SettleAnswer::Refused`]. Each lease at most once.
pub async fn settle_group(store: &dyn Store, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
    let error = match store.settle(items).await {
        Err(error) if is_of_some_rows(&error) => error,
        result => return result,
    };
    // Not the data of a lone item: a defect of the server or the schema, and its outcome is not to be given up.
    if items.len() == 1 && matches!(error, StoreError::Defect(_)) {
        return Err(error);
    }
    let (mut answers, mut defects) = (Vec::with_capacity(items.len()), 0);
    for item in items {
        match store.settle(std::slice::from_ref(item)).await {
            Ok(answer) => answers.extend(answer),
            Err(error) if is_of_some_rows(&error) => {
                tracing::warn!(job_id = %item.lease.job_id, %error, "an outcome that the database refuses was sent back");
                defects += usize::from(matches!(error, StoreError::Defect(_)));
                answers.push(SettleAnswer::Refused);
            }
            // What has been settled is answered the same when it is sent again.
            Err(error) => return Err(error),
        }
    }
    if defects == items.len() { Err(error) } else { Ok(answers) }
}
