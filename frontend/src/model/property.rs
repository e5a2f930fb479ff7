//! Properties of one job or session: names and values, in the order of the page.

/// Name of a property and its value. On one page, the property at each place keeps the kind of its value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Property {
    pub name: &'static str,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text; "" is shown as a dash.
    Text(String),
    /// Text in the type of code; "" is shown as a dash.
    Code(String),
    /// Id of a session; "" = none.
    Session(String),
    /// Milliseconds since 1970.
    Time(Option<i64>),
}

impl Default for Value {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// Property that is a text.
pub fn text(name: &'static str, text: impl Into<String>) -> Property {
    Property { name, value: Value::Text(text.into()) }
}

/// Property that is a point in time.
pub fn time(name: &'static str, ms: Option<i64>) -> Property {
    Property { name, value: Value::Time(ms) }
}
