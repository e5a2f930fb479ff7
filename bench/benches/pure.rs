//! Criterion benchmark of the pure functions on the path of a job: `cargo bench -p jobqueue-bench`.

use criterion::{Criterion, criterion_group, criterion_main};
use jobqueue_bench::pure::FUNCTIONS;

fn pure(criterion: &mut Criterion) {
    for function in FUNCTIONS {
        let mut call = (function.make)();
        criterion.bench_function(function.name, |bencher| bencher.iter(&mut call));
    }
}

criterion_group!(benches, pure);
criterion_main!(benches);
