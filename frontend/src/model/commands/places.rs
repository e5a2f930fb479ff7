//! Pages of the dashboard: where the rail and the keys lead, in groups by what a person does there.

/// Page that the rail, a key or the palette leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the group in the rail; "" = none.
    pub group: &'static str,
    pub href: &'static str,
    pub icon: &'static str,
    pub word: &'static str,
    /// Key that leads here after `g`; `None` = no key.
    pub key: Option<char>,
    /// Beginnings of other addresses that belong to this page.
    pub also: &'static [&'static str],
    /// False for a page that only the palette, a key and other pages lead to.
    pub in_rail: bool,
}

const WATCH: &str = "Watch";
const OPERATE: &str = "Operate";

/// All pages, in the order of the rail. The bar at the bottom of a phone has room for five.
pub const PLACES: [Place; 8] = [
    Place { group: WATCH, href: "/", icon: "overview", word: "Overview", key: Some('o'), also: &[], in_rail: true },
    Place { group: WATCH, href: "/jobs", icon: "jobs", word: "Jobs", key: Some('j'), also: &[], in_rail: true },
    Place {
        group: WATCH,
        href: "/errors",
        icon: "letters",
        word: "Errors",
        key: Some('e'),
        also: &["/dead-letters"],
        in_rail: true,
    },
    Place {
        group: WATCH,
        href: "/queues",
        icon: "queues",
        word: "Queues",
        key: Some('q'),
        also: &["/workers"],
        in_rail: true,
    },
    Place {
        group: WATCH,
        href: "/workers",
        icon: "workers",
        word: "Workers",
        key: Some('w'),
        also: &[],
        in_rail: false,
    },
    Place {
        group: WATCH,
        href: "/dead-letters",
        icon: "letters",
        word: "Dead letters",
        key: Some('d'),
        also: &[],
        in_rail: false,
    },
    Place {
        group: OPERATE,
        href: "/operations",
        icon: "operations",
        word: "Operations",
        key: Some('p'),
        also: &[],
        in_rail: true,
    },
    // The button of the top bar opens the same form over any page.
    Place { group: "", href: "/submit", icon: "submit", word: "Submit", key: None, also: &[], in_rail: false },
];

impl Place {
    /// Whether the page at `path` belongs to this one.
    pub fn has(&self, path: &str) -> bool {
        let below =
            |root: &str| path == root || (root != "/" && path.strip_prefix(root).is_some_and(|it| it.starts_with('/')));
        below(self.href) || self.also.iter().any(|root| below(root))
    }
}

/// Groups of the rail with their pages, in order.
pub fn groups() -> Vec<(&'static str, Vec<Place>)> {
    let mut groups: Vec<(&'static str, Vec<Place>)> = Vec::new();
    for place in PLACES.into_iter().filter(|place| place.in_rail) {
        match groups.last_mut().filter(|(group, _)| *group == place.group) {
            Some((_, places)) => places.push(place),
            None => groups.push((place.group, vec![place])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_one_page_of_the_rail() {
        for (path, href) in [
            ("/", "/"),
            ("/jobs", "/jobs"),
            ("/jobs/0192f5a6", "/jobs"),
            ("/errors/00000000000000ff", "/errors"),
            ("/dead-letters", "/errors"),
            ("/queues/mail", "/queues"),
            ("/workers", "/queues"),
            ("/workers/0192f5a6", "/queues"),
            ("/operations/new", "/operations"),
        ] {
            let found: Vec<_> = PLACES.iter().filter(|place| place.in_rail && place.has(path)).collect();
            assert_eq!(found.iter().map(|place| place.href).collect::<Vec<_>>(), [href], "{path}");
        }
        assert!(!PLACES.iter().any(|place| place.has("/jobsite") || place.has("/nowhere")));
    }

    #[test]
    fn each_group_is_named_once_and_a_phone_has_room_for_the_rail() {
        let groups = groups();
        assert_eq!(groups.iter().map(|(word, _)| *word).collect::<Vec<_>>(), ["Watch", "Operate"]);
        assert!(groups.iter().map(|(_, places)| places.len()).sum::<usize>() <= 5);
    }

    #[test]
    fn no_key_leads_to_two_pages() {
        let mut keys: Vec<char> = PLACES.iter().filter_map(|place| place.key).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!((keys.len(), count), (7, 7));
    }
}
