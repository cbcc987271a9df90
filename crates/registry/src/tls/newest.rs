//! The newest contents of files that could be used, and what is wrong with those that cannot.

/// What was made of the newest contents that could be used, and what is wrong with what is there now.
pub(super) struct Newest<R, T> {
    in_force: Option<(R, T)>,
    wrong: Option<Wrong<R>>,
}

/// What cannot be used: the contents, where they could be read at all.
struct Wrong<R> {
    read: Option<R>,
    problem: String,
    is_told: bool,
}

/// What a look has found.
pub(super) enum Found<R, T> {
    /// What is in force.
    Same,
    Usable(R, T),
    Unusable(Option<R>, String),
}

impl<R, T> Found<R, T> {
    /// What can be made of what was read, unless that is in force.
    pub(super) fn of(
        read: Result<R, String>,
        is_in_force: impl FnOnce(&R) -> bool,
        make: impl FnOnce(&R) -> Result<T, String>,
    ) -> Self {
        match read {
            Err(problem) => Self::Unusable(None, problem),
            Ok(read) if is_in_force(&read) => Self::Same,
            Ok(read) => match make(&read) {
                Ok(usable) => Self::Usable(read, usable),
                Err(problem) => Self::Unusable(Some(read), problem),
            },
        }
    }
}

impl<R: PartialEq, T> Newest<R, T> {
    pub(super) fn in_force(&self) -> Option<&T> {
        self.in_force.as_ref().map(|(_, made)| made)
    }

    /// Whether what is in force was made of that.
    pub(super) fn is_made_of(&self, read: &R) -> bool {
        self.in_force.as_ref().is_some_and(|(of, _)| of == read)
    }

    /// Takes what can be used, and keeps what is in force for as long as there is nothing better. Whether it has changed.
    pub(super) fn note(&mut self, found: Found<R, T>) -> bool {
        match found {
            Found::Same => self.wrong = None,
            Found::Usable(read, usable) => {
                self.wrong = None;
                self.in_force = Some((read, usable));
                return true;
            }
            Found::Unusable(read, problem) => {
                let is_known = |wrong: &Wrong<R>| wrong.read == read && wrong.problem == problem;
                if !self.wrong.as_ref().is_some_and(is_known) {
                    self.wrong = Some(Wrong {
                        read,
                        problem,
                        is_told: false,
                    });
                }
            }
        }
        false
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.wrong.as_ref().map(|wrong| wrong.problem.as_str())
    }

    /// What is wrong, and nobody has been told of.
    pub(super) fn untold(&self) -> Option<&str> {
        let wrong = self.wrong.as_ref().filter(|wrong| !wrong.is_told);
        wrong.map(|wrong| wrong.problem.as_str())
    }

    /// The same, which is told by this.
    pub(super) fn tell(&mut self) -> Option<String> {
        let problem = self.untold()?.to_owned();
        if let Some(wrong) = &mut self.wrong {
            wrong.is_told = true;
        }
        Some(problem)
    }
}

impl<R, T> Default for Newest<R, T> {
    fn default() -> Self {
        Self {
            in_force: None,
            wrong: None,
        }
    }
}
