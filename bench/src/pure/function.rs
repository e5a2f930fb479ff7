//! Function to measure, as a name and a constructor of its calls.

/// Call of a function on an input that it keeps. It returns a count of its results, so that nothing is optimised away.
pub type Call = Box<dyn FnMut() -> usize>;

/// Function to measure: its name, and a constructor that makes its input and returns the closure to call.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub name: &'static str,
    pub make: fn() -> Call,
}
