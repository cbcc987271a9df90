//! The default dialect: that of etcd's own Go `client/v3/naming`.
