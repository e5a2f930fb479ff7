//! Writing of the heartbeats of concurrent calls.

use std::collections::HashMap;

use jobqueue_store::{Heartbeat, HeartbeatAnswer, StoreResult};

use crate::queue::{
    context::Context,
    group_commit::limits::{BatchLimits, MIB, Weight},
};

/// Limits of a group of heartbeats, and of the heartbeats that wait for one.
pub(crate) const LIMITS: BatchLimits = BatchLimits {
    group: Weight { count: 2_000, bytes: MIB },
    waiting: Weight { count: 8_192, bytes: MIB },
    second_group_from: usize::MAX,
};

/// Extends the sessions of a group. Each session is passed to the store once: a worker that repeats a heartbeat whose
/// answer was slow may have two in one group.
pub(crate) async fn flush(context: &Context, beats: Vec<Heartbeat>) -> StoreResult<Vec<Option<HeartbeatAnswer>>> {
    let mut places = HashMap::with_capacity(beats.len());
    let mut unique: Vec<Heartbeat> = Vec::with_capacity(beats.len());
    for beat in &beats {
        let place = *places.entry(beat.session_id).or_insert(unique.len());
        match unique.get_mut(place) {
            Some(first) => first.draining |= beat.draining,
            None => unique.push(*beat),
        }
    }
    let answers = context.store.heartbeat(&unique).await?;
    Ok(beats
        .iter()
        .map(|beat| places.get(&beat.session_id).and_then(|&at| answers.get(at).cloned().flatten()))
        .collect())
}
