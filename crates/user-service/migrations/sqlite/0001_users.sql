-- Times are microseconds since 1970. Ids are compared byte by byte, as SQLite does.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    email TEXT NOT NULL,
    etag TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Apart from the users, so that reading one never reads a secret.
CREATE TABLE passwords (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What each request to create a user was answered, for the request that comes again.
CREATE TABLE create_requests (
    request_id TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    email TEXT NOT NULL,
    etag TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX create_requests_by_time ON create_requests (create_time);

-- The one key that tokens are signed with, by every instance on this storage.
CREATE TABLE signing_key (
    number INTEGER NOT NULL PRIMARY KEY CHECK (number = 1),
    secret BLOB NOT NULL
) STRICT;
