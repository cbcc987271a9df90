//! Which cluster, and how it is spoken to.

use std::{fmt, path::PathBuf, time::Duration};

use tokio_rustls::rustls::pki_types::ServerName;

use super::InvalidEtcdUrl;
use crate::{Address, ServiceName, dialect::Dialects, tls::CredentialFiles};

/// Seldom enough that a thousand idle watchers cost etcd some thirty reads a second.
const QUIET: Duration = Duration::from_secs(30);
/// How often to compare what a watch has told with what is there.
const RECONCILE: Duration = Duration::from_mins(10);

/// What is longer is as good as never, and can be added to any moment.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Which etcd cluster, and which part of its keys.
///
/// ```
/// use registry::backend::etcd::{EtcdOptions, EtcdTls};
/// let options: EtcdOptions = "etcd://10.0.0.1:2379,10.0.0.2:2379/shop".parse()?;
/// assert_eq!(options.to_string(), "etcd://10.0.0.1:2379,10.0.0.2:2379/shop");
///
/// // `etcds://` trusts the system's certificate authorities; other files are named beside the URL.
/// let options: EtcdOptions = "etcds://etcd.internal:2379/shop".parse()?;
/// let options = options.with_tls(EtcdTls::new().with_authorities("/etc/etcd/ca.pem"));
/// assert_eq!(options.to_string(), "etcds://etcd.internal:2379/shop");
/// # Ok::<(), registry::backend::etcd::InvalidEtcdUrl>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    pub(super) endpoints: Vec<Address>,
    /// A namespace has the form of a service name.
    pub(super) namespace: Option<ServiceName>,
    pub(super) tls: Option<EtcdTls>,
    pub(super) user: Option<EtcdUser>,
    pub(super) learns_members: bool,
    pub(super) quiet: Duration,
    pub(super) reconcile: Duration,
    pub(super) dialects: Dialects,
    /// Only with a namespace.
    pub(super) is_watch_shared: bool,
}

impl EtcdOptions {
    /// The cluster that has these members, spoken to without TLS; one is enough to begin with, more to go on when it
    /// fails.
    pub fn new(endpoints: impl IntoIterator<Item = Address>) -> Result<Self, InvalidEtcdUrl> {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        if endpoints.is_empty() {
            return Err(InvalidEtcdUrl::NoMember);
        }
        if let Some(socket) = endpoints.iter().find(|member| member.port().is_none()) {
            return Err(InvalidEtcdUrl::Socket(socket.clone()));
        }
        Ok(Self {
            endpoints,
            namespace: None,
            tls: None,
            user: None,
            learns_members: true,
            quiet: QUIET,
            reconcile: RECONCILE,
            dialects: Dialects::default(),
            is_watch_shared: false,
        })
    }

    /// The same with another time, by default 30 s, after which a watch that has heard nothing is checked by a
    /// linearizable read. It is no part of the URL.
    pub fn with_quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet.min(LONGEST);
        self
    }

    /// The same with another time, by default 10 min, longer or shorter by a tenth at random, after which what a running
    /// watch has told is compared with a list. It is no part of the URL.
    pub fn with_reconcile(mut self, every: Duration) -> Self {
        self.reconcile = every.min(LONGEST);
        self
    }

    /// The same with one watch for all that is followed in the namespace, which has to be set before: for who follows much
    /// of what is there, thousands of services perhaps. Who follows little of it is better without: this process is told
    /// all that happens in the namespace, and needs permission to read all of it. It is no part of the URL.
    ///
    /// ```
    /// use registry::backend::etcd::EtcdOptions;
    /// let options: EtcdOptions = "etcd://10.0.0.1:2379/shop".parse()?;
    /// let options = options.with_shared_watch()?;
    ///
    /// // Without a namespace it would be a watch of all of etcd.
    /// let options: EtcdOptions = "etcd://10.0.0.1:2379".parse()?;
    /// assert!(options.with_shared_watch().is_err());
    /// # Ok::<(), registry::backend::etcd::InvalidEtcdUrl>(())
    /// ```
    pub fn with_shared_watch(mut self) -> Result<Self, InvalidEtcdUrl> {
        if self.namespace.is_none() {
            return Err(InvalidEtcdUrl::NothingToShare);
        }
        self.is_watch_shared = true;
        Ok(self)
    }

    /// The same with all keys below `namespace/`, which has the form of a service name. Without one, keys are as etcd's
    /// own Go packages have them.
    pub fn with_namespace(mut self, namespace: &str) -> Result<Self, InvalidEtcdUrl> {
        let namespace = ServiceName::new(namespace).map_err(InvalidEtcdUrl::Namespace)?;
        self.namespace = Some(namespace);
        Ok(self)
    }

    /// The same in other dialects than [`Etcd`](crate::dialect::DialectName::Etcd) alone: an instance is written in each of
    /// them, in one transaction, and those are found that are written in any of them, merged by address, the first one
    /// winning. It is no part of the URL.
    ///
    /// ```
    /// use registry::{backend::etcd::EtcdOptions, dialect::{DialectName, Dialects}};
    /// let dialects = Dialects::new([DialectName::Etcd, DialectName::Kratos])?;
    /// let options = "etcd://10.0.0.1:2379".parse::<EtcdOptions>()?.with_dialects(dialects);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_dialects(mut self, dialects: Dialects) -> Self {
        self.dialects = dialects;
        self
    }

    /// The same by TLS. Of it, the URL has the scheme alone.
    pub fn with_tls(mut self, tls: EtcdTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The same with or without asking the cluster for members beside those that are configured, which is done unless
    /// told otherwise: every ten minutes, and after a failure, at most once a minute.
    ///
    /// Those that are configured stay. Others are taken when they can be reached and are of the same cluster, and are used
    /// when none of the configured ones answers. A cluster that does not tell its members is used without.
    pub fn with_member_list(mut self, is_asked_for: bool) -> Self {
        self.learns_members = is_asked_for;
        self
    }

    /// The same as that user. Of it, the URL shows the name alone.
    pub fn with_user(mut self, user: EtcdUser) -> Self {
        self.user = Some(user);
        self
    }
}

/// Who we are to a cluster that has authentication enabled.
///
/// What etcd gives for the password is a token, which is fetched when it is first needed, put on every request, and
/// fetched again when etcd does not know it any more. A cluster without authentication is used without.
///
/// ```
/// use registry::backend::etcd::{EtcdOptions, EtcdUser};
/// let options: EtcdOptions = "etcds://etcd.internal:2379".parse()?;
/// let options = options.with_user(EtcdUser::from_file("ann", "/run/secrets/etcd"));
/// assert_eq!(options.to_string(), "etcds://ann@etcd.internal:2379");
///
/// let options: EtcdOptions = "etcds://ann:s%2Fcret@etcd.internal:2379".parse()?;
/// assert!(!format!("{options} {options:?}").contains("cret"));
/// # Ok::<(), registry::backend::etcd::InvalidEtcdUrl>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdUser {
    pub(super) name: String,
    pub(super) password: Password,
}

/// Where a password is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Password {
    Given(String),
    In(PathBuf),
}

impl EtcdUser {
    /// The user of that name and password.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            password: Password::Given(password.into()),
        }
    }

    /// The user of that name, whose password is what the file holds, less a line break at its end. The file is read each
    /// time that a token is fetched, so that a new password is taken up without a restart.
    pub fn from_file(name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            password: Password::In(file.into()),
        }
    }
}

/// Without the password.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("***"),
            Self::In(file) => file.fmt(f),
        }
    }
}

/// TLS towards the members of a cluster.
///
/// Files are read again for each connection, and looked at once a minute: new ones are in force from the next connection
/// on, without a restart; whom to trust whatever our own certificate is. What cannot be used leaves what was in force
/// before; it is logged once, and counted ([`Registry::refused_files`](crate::Registry::refused_files)).
///
/// A member's certificate is verified for the host by which it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EtcdTls {
    pub(super) files: CredentialFiles,
    pub(super) server_name: Option<String>,
}

impl EtcdTls {
    /// TLS that trusts the system's certificate authorities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in this file, in PEM, and no others.
    pub fn with_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.files = self.files.with_authorities(file);
        self
    }

    /// Shows members that ask for it the certificate in one file (followed by those that vouch for it, if any), which the
    /// key in the other belongs to; both in PEM.
    pub fn with_identity(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.files = self.files.with_identity(certificate, key);
        self
    }

    /// Verifies members' certificates for `name`, whatever host they are reached by.
    pub fn with_server_name(mut self, name: &str) -> Result<Self, InvalidEtcdUrl> {
        let invalid = |_| InvalidEtcdUrl::ServerName(name.to_owned());
        ServerName::try_from(name).map_err(invalid)?;
        self.server_name = Some(name.to_owned());
        Ok(self)
    }
}
