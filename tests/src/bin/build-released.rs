//! Builds the released version that the upgrade tests start from, and says where it is.

fn main() {
    println!("{}", jobqueue_tests::released::programs().server.display());
}
