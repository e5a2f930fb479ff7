//! Settlements of many callers in one transaction, independent of each other.

use crate::{SettleAnswer, Settlement, Store, StoreError, StoreResult};

/// Settles a group; one answer for each item, in order, each lease at most once. If the database refuses the data of
/// some items, each is settled alone, and only the refused ones are answered [`SettleAnswer::Unstorable`].
pub async fn settle_group(store: &dyn Store, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
    let error = match store.settle(items).await {
        Err(error) if error.concerns_single_rows() => error,
        result => return result,
    };
    // A lone item fails because of a defect of the server or the schema, not because of its data: its outcome must not
    // be given up.
    if items.len() == 1 && matches!(error, StoreError::Defect(_)) {
        return Err(error);
    }
    let (mut answers, mut defects) = (Vec::with_capacity(items.len()), 0);
    for item in items {
        match store.settle(std::slice::from_ref(item)).await {
            Ok(answer) => answers.extend(answer),
            Err(error) if error.concerns_single_rows() => {
                tracing::warn!(job_id = %item.lease.job_id, %error, "an outcome that the database refuses was sent back");
                defects += usize::from(matches!(error, StoreError::Defect(_)));
                answers.push(SettleAnswer::Unstorable);
            }
            // The items settled so far are answered in the same way when they are sent again.
            Err(error) => return Err(error),
        }
    }
    if defects == items.len() { Err(error) } else { Ok(answers) }
}
