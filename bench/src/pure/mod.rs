//! Pure functions on the path of every job, each by itself: for criterion, and for a tool that counts instructions and
//! therefore shows a regression on a machine that is busy with other things.

pub mod function;
mod messages;
mod shared;
mod store;

use std::hint::black_box;

use anyhow::{Result, bail};

use self::function::Function;

/// Jobs in one call.
const BATCH: usize = 500;

/// Functions in the order in which they are printed.
pub const FUNCTIONS: [Function; 9] = [
    Function { name: "prepare-500", make: || store::prepare(BATCH) },
    Function { name: "hand-over-500", make: || store::build_claims(BATCH) },
    Function { name: "settle-500", make: || store::settle(BATCH) },
    Function { name: "lease-to-text-and-back", make: shared::lease_to_text_and_back },
    Function { name: "retry-delay", make: shared::retry_delay },
    Function { name: "check-json-2-kib", make: shared::check_json },
    Function { name: "read-submits-500", make: || messages::read_submits(BATCH) },
    Function { name: "write-acquired-500", make: || messages::write_acquired(BATCH) },
    Function { name: "read-settlements-500", make: || messages::read_settlements(BATCH) },
];

/// Calls the function of that name `count` times; without a name, prints all names.
pub fn call(name: Option<&str>, count: u64) -> Result<()> {
    let Some(name) = name else {
        for function in FUNCTIONS {
            println!("{}", function.name);
        }
        return Ok(());
    };
    let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
        bail!("there is no function {name}");
    };
    let mut call = (function.make)();
    for _ in 0..count {
        black_box(call());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_does_something_each_time() {
        for Function { name, make } in FUNCTIONS {
            let mut call = make();
            let (first, second) = (call(), call());
            assert!(first > 0 && second > 0, "{name}: {first}, {second}");
        }
        assert!(call(Some("no-such-function"), 1).is_err());
    }
}
