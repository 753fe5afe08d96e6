//! Commands of the user that run before and after what dbvault does.

/// Whether commands run before something or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Before it begins: a command that fails keeps it from beginning.
    Before,
    /// After it ended, well or not: see [`CommandHook::states`].
    After,
}

/// What commands run before or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One action: a backup, a prune, a check …, for each repository that it is done to.
    Action,
    /// All actions that one run does to one repository.
    Repository,
    /// All that one configuration file asks for.
    Configuration,
    /// All that one run of the program does.
    Everything,
    /// A failure of any of it; only with [`Moment::After`].
    Error,
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Without an error.
    Finish,
    /// With one.
    Fail,
}

/// Commands, and when they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandHook {
    /// Before or after.
    pub when: Moment,
    /// What.
    pub scope: Scope,
    /// Names of the actions that they run for, as the command line calls them (`backup`, not `create`); none: all.
    pub actions: Vec<String>,
    /// Ends after which they run; none: all. Only with [`Moment::After`].
    pub states: Vec<State>,
    /// Texts for `/bin/sh -c`, run in this order.
    pub run: Vec<String>,
}

impl CommandHook {
    /// Whether it runs for an action of that name.
    pub fn concerns(&self, action: &str) -> bool {
        self.actions.is_empty() || self.actions.iter().any(|name| name == action)
    }

    /// Whether it runs after what ended so.
    pub fn follows(&self, state: State) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }
}
