//! List that a person came from to a job's page: the jobs before and after it in that list.

use serde::{Deserialize, Serialize};

use super::id;

/// List as it was shown: its address, its name, and the ids of its jobs in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    pub address: String,
    pub name: String,
    pub ids: Vec<String>,
}

/// Place of a job in a trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub previous: Option<String>,
    pub next: Option<String>,
    /// Number of the job in the list, from 1, and the length of the list.
    pub number: usize,
    pub of: usize,
}

impl Trail {
    pub fn place(&self, job_id: &str) -> Option<Place> {
        let at = self.ids.iter().position(|id| id == job_id)?;
        let id = |at: usize| self.ids.get(at).cloned();
        Some(Place { previous: at.checked_sub(1).and_then(id), next: id(at + 1), number: at + 1, of: self.ids.len() })
    }

    /// True while the person follows the trail: from its list to one of its jobs, from one of these to another, or back
    /// to the list.
    pub fn leads(&self, from: &str, to: &str) -> bool {
        let on = |address: &str| address == self.address || self.ids.iter().any(|id| id::job_page(id) == address);
        on(from) && on(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail() -> Trail {
        Trail { address: "/jobs?task=a".into(), name: "Jobs".into(), ids: ["x", "y", "z"].map(str::to_owned).to_vec() }
    }

    #[test]
    fn a_job_has_neighbours_in_its_list() {
        let place = |previous: Option<&str>, next: Option<&str>, number| Place {
            previous: previous.map(Into::into),
            next: next.map(Into::into),
            number,
            of: 3,
        };
        assert_eq!(trail().place("x"), Some(place(None, Some("y"), 1)));
        assert_eq!(trail().place("y"), Some(place(Some("x"), Some("z"), 2)));
        assert_eq!(trail().place("z"), Some(place(Some("y"), None, 3)));
        assert_eq!(trail().place("w"), None);
    }

    #[test]
    fn a_trail_ends_where_it_is_left() {
        let trail = trail();
        assert!(trail.leads("/jobs?task=a", "/jobs/x") && trail.leads("/jobs/x", "/jobs/z"));
        assert!(trail.leads("/jobs/z", "/jobs?task=a"));
        assert!(!trail.leads("/jobs", "/jobs/x"), "another list");
        assert!(!trail.leads("/jobs/x", "/workers") && !trail.leads("/workers", "/jobs/x"));
    }
}
