//! The dialects that there are.

use std::{fmt, str::FromStr};

use super::{
    InvalidDialect, codec::Codec, etcd::Etcd, go_micro::GoMicro, go_zero::GoZero,
    gopherex::Gopherex, grpc_lb::GrpcLb, kitex::Kitex, kratos::Kratos, plain::Plain, qsf::Qsf,
};

/// The name of a dialect: whose keys and values it is.
///
/// ```
/// use registry::dialect::DialectName;
/// assert_eq!("go-zero".parse(), Ok(DialectName::GoZero));
/// let refused = "consul".parse::<DialectName>().unwrap_err();
/// assert!(refused.to_string().contains("etcd, qsf, grpc-lb"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum DialectName {
    /// `etcd`: etcd's own Go package `client/v3/naming`. The only one that carries all of an instance, its status among it.
    #[default]
    Etcd,
    /// `qsf`: chuangyou/qsf.
    Qsf,
    /// `grpc-lb`: liyue201/grpc-lb.
    GrpcLb,
    /// `go-zero`: `core/discov` of zeromicro/go-zero.
    GoZero,
    /// `kratos`: `contrib/registry/etcd` of go-kratos/kratos.
    Kratos,
    /// `kitex`: kitex-contrib/registry-etcd.
    Kitex,
    /// `go-micro`: `registry/etcd` of micro/go-micro.
    GoMicro,
    /// `gopherex`: an `Instance` of handikong/gopherex as Go marshals it.
    Gopherex,
    /// `plain`: nothing but an address.
    Plain,
}

impl DialectName {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Etcd,
        Self::Qsf,
        Self::GrpcLb,
        Self::GoZero,
        Self::Kratos,
        Self::Kitex,
        Self::GoMicro,
        Self::Gopherex,
        Self::Plain,
    ];

    /// The name as it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Qsf => "qsf",
            Self::GrpcLb => "grpc-lb",
            Self::GoZero => "go-zero",
            Self::Kratos => "kratos",
            Self::Kitex => "kitex",
            Self::GoMicro => "go-micro",
            Self::Gopherex => "gopherex",
            Self::Plain => "plain",
        }
    }

    pub(super) fn codec(self) -> &'static dyn Codec {
        match self {
            Self::Etcd => &Etcd,
            Self::Qsf => &Qsf,
            Self::GrpcLb => &GrpcLb,
            Self::GoZero => &GoZero,
            Self::Kratos => &Kratos,
            Self::Kitex => &Kitex,
            Self::GoMicro => &GoMicro,
            Self::Gopherex => &Gopherex,
            Self::Plain => &Plain,
        }
    }

    /// All of them, for a message.
    pub(super) fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for DialectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DialectName {
    type Err = InvalidDialect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|name| name.as_str() == text);
        known.ok_or_else(|| InvalidDialect::Unknown(text.chars().take(80).collect()))
    }
}
