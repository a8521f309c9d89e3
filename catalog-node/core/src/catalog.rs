//! The entries of one catalogue, in order of identifier, and pages of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::dataset::{Dataset, InvalidDataset};
use crate::query::Query;

/// The entries of a catalogue.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    dataset: Arc<Dataset>,
    /// Title, description and keywords in lower case, one a line: words are looked for here.
    haystack: String,
}

/// One page of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The entries, in order of identifier; may be fewer than asked for, or none, while `next` is there.
    pub datasets: Vec<Arc<Dataset>>,
    /// Where the next page begins; `None` if this is the last.
    pub next: Option<Cursor>,
}

/// Why a search was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The cursor was made for other conditions.
    #[error("cursor belongs to another query")]
    CursorOfOtherQuery,
}

impl Catalog {
    /// Entries looked at for one page; then the page ends, with a cursor.
    pub const MAX_SCANNED: usize = 100_000;

    /// Adds an entry, or replaces the one with the same identifier.
    ///
    /// # Errors
    /// [`InvalidDataset`] names the field; the catalogue is unchanged.
    pub fn insert(&mut self, dataset: Dataset) -> Result<(), InvalidDataset> {
        dataset.check()?;
        let mut haystack = format!("{}\n{}", dataset.title, dataset.description);
        for keyword in &dataset.keywords {
            haystack.push('\n');
            haystack.push_str(keyword);
        }
        let haystack = haystack.to_lowercase();
        self.entries.insert(dataset.id.clone(), Entry { dataset: Arc::new(dataset), haystack });
        Ok(())
    }

    /// Removes an entry, and returns it.
    pub fn remove(&mut self, id: &str) -> Option<Arc<Dataset>> {
        self.entries.remove(id).map(|entry| entry.dataset)
    }

    /// The entry with this identifier.
    pub fn get(&self, id: &str) -> Option<&Arc<Dataset>> {
        self.entries.get(id).map(|entry| &entry.dataset)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One page of the entries of which `seen` shows something and for which, as shown, all conditions hold.
    ///
    /// `seen` gives the entry itself, or the part of it that whoever asks may see: fewer offers, fewer fields. Conditions
    /// are tried on that part, so that what is not shown decides nothing.
    ///
    /// Paging is by key: an entry that stays in the catalogue is on exactly one page, whatever is added or removed
    /// between two pages.
    ///
    /// # Errors
    /// [`SearchError::CursorOfOtherQuery`].
    pub fn search(
        &self,
        query: &Query,
        seen: impl Fn(&Arc<Dataset>) -> Option<Arc<Dataset>>,
    ) -> Result<Page, SearchError> {
        let fingerprint = query.fingerprint();
        let start = match query.after() {
            None => Bound::Unbounded,
            Some(cursor) if cursor.belongs_to(fingerprint) => Bound::Excluded(cursor.last_id.as_str()),
            Some(_) => return Err(SearchError::CursorOfOtherQuery),
        };
        let mut datasets = Vec::new();
        let mut last = None;
        for (scanned, (id, entry)) in self.entries.range::<str, _>((start, Bound::Unbounded)).enumerate() {
            if datasets.len() == query.limit() || scanned == Self::MAX_SCANNED {
                let next = last.map(|id| Cursor::new(fingerprint, id));
                return Ok(Page { datasets, next });
            }
            // A condition that holds for a part holds for the whole.
            if query.holds(&entry.dataset, &entry.haystack)
                && let Some(part) = seen(&entry.dataset)
                && (Arc::ptr_eq(&part, &entry.dataset) || query.holds(&part, &entry.haystack))
            {
                datasets.push(part);
            }
            last = Some(id.as_str());
        }
        Ok(Page { datasets, next: None })
    }
}
