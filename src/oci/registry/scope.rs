//! [`Scopes`]: what a token is asked for, such as `repository:NAME:pull,push`.

/// What tokens are to allow. Equal ones are asked for once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scopes(Vec<String>);

impl Scopes {
    /// Reading a repository.
    pub(super) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    /// Writing to a repository.
    pub(super) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    /// Adds what a registry asks for beside, separated by spaces.
    pub(super) fn and(mut self, asked: &str) -> Self {
        for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
            if !self.0.iter().any(|known| covers(known, scope)) {
                self.0.push(scope.to_owned());
            }
        }
        self
    }

    /// Adds another set.
    pub(super) fn with(self, others: &Self) -> Self {
        others.0.iter().fold(self, |all, scope| all.and(scope))
    }

    /// Returns them one by one.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Returns whether a scope allows everything that another one does.
fn covers(scope: &str, other: &str) -> bool {
    let (Some((resource, actions)), Some((other_resource, other_actions))) =
        (scope.rsplit_once(':'), other.rsplit_once(':'))
    else {
        return scope == other;
    };
    let allowed: Vec<&str> = actions.split(',').collect();
    resource == other_resource
        && other_actions
            .split(',')
            .all(|action| allowed.contains(&action))
}

#[cfg(test)]
mod tests {
    use super::Scopes;

    #[test]
    fn nothing_is_asked_for_twice() {
        let push = Scopes::push("a/b");
        let list = |scopes: Scopes| scopes.iter().map(str::to_owned).collect::<Vec<_>>();
        let own = "repository:a/b:pull,push";
        assert_eq!(list(push.clone().and("repository:a/b:push,pull")), [own]);
        assert_eq!(list(push.clone().with(&Scopes::pull("a/b"))), [own]);
        assert_eq!(
            list(push.clone().with(&Scopes::pull("c"))),
            [own, "repository:c:pull"]
        );
        assert_eq!(
            list(
                push.clone()
                    .and(" repository:a/b:delete  aws registry:catalog:*")
            ),
            [own, "repository:a/b:delete", "aws", "registry:catalog:*"]
        );
    }
}
