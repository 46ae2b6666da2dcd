-- +goose Up

CREATE TABLE revision (
	id SMALLINT PRIMARY KEY CHECK (id = 1),
	n  BIGINT NOT NULL
);
INSERT INTO revision (id, n) VALUES (1, 0);

CREATE TABLE change (
	revision BIGINT PRIMARY KEY,
	kind     TEXT NOT NULL,
	app      TEXT NOT NULL,
	id       TEXT NOT NULL,
	at       BIGINT NOT NULL
);

-- A known text under the master key: whether the key is the right one shows at start.
CREATE TABLE master_key (
	id     SMALLINT PRIMARY KEY CHECK (id = 1),
	sealed TEXT NOT NULL
);

CREATE TABLE app (
	name       TEXT PRIMARY KEY,
	skew       BIGINT NOT NULL,
	max_ttl    BIGINT NOT NULL,
	one_key    SMALLINT NOT NULL,
	end_expiry SMALLINT NOT NULL,
	issuer     TEXT NOT NULL,
	audience   TEXT NOT NULL,
	jwks_url   TEXT NOT NULL,
	created    BIGINT NOT NULL
);
CREATE UNIQUE INDEX app_issuer ON app (issuer) WHERE issuer <> '';

CREATE TABLE app_key (
	id      TEXT PRIMARY KEY,
	app     TEXT NOT NULL REFERENCES app (name),
	secret  TEXT NOT NULL,
	created BIGINT NOT NULL,
	retires BIGINT NOT NULL,
	revoked SMALLINT NOT NULL
);
CREATE INDEX app_key_app ON app_key (app, created);

CREATE TABLE device (
	id        TEXT PRIMARY KEY,
	app       TEXT NOT NULL REFERENCES app (name),
	secret    TEXT NOT NULL,
	client_id TEXT NOT NULL,
	disabled  SMALLINT NOT NULL,
	created   BIGINT NOT NULL
);
CREATE INDEX device_app ON device (app, id);

CREATE TABLE rule (
	app      TEXT NOT NULL REFERENCES app (name),
	subject  TEXT NOT NULL,
	action   TEXT NOT NULL,
	resource TEXT NOT NULL,
	created  BIGINT NOT NULL,
	PRIMARY KEY (app, subject, action, resource)
);

CREATE TABLE revocation (
	kind     TEXT NOT NULL,
	app      TEXT NOT NULL,
	id       TEXT NOT NULL,
	at       BIGINT NOT NULL,
	until    BIGINT NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (kind, app, id)
);
CREATE INDEX revocation_until ON revocation (until);

-- What can be had once: one-time tokens by their id, and the right to continue a
-- session, as "session:ID". The claimant is the session that has it.
CREATE TABLE spent (
	id       TEXT PRIMARY KEY,
	claimant TEXT NOT NULL,
	till     BIGINT NOT NULL
);
CREATE INDEX spent_till ON spent (till);

CREATE TABLE session (
	id       TEXT PRIMARY KEY,
	app      TEXT NOT NULL,
	subject  TEXT NOT NULL,
	door     TEXT NOT NULL,
	actions  TEXT NOT NULL,
	resource TEXT NOT NULL,
	source   TEXT NOT NULL,
	node     TEXT NOT NULL,
	token_id TEXT NOT NULL,
	key_id   TEXT NOT NULL,
	claim    TEXT NOT NULL,
	replaces TEXT NOT NULL,
	started  BIGINT NOT NULL,
	expires  BIGINT NOT NULL,
	ended    BIGINT NOT NULL,
	reason   TEXT NOT NULL
);
CREATE INDEX session_app ON session (app, started);
CREATE INDEX session_started ON session (started);
CREATE INDEX session_live ON session (started) WHERE ended = 0;
CREATE INDEX session_live_app ON session (app, started) WHERE ended = 0;
CREATE INDEX session_ended ON session (ended) WHERE ended > 0;

-- A resume ticket, by its hash. A session has several while old ones are still good.
CREATE TABLE ticket (
	hash    TEXT PRIMARY KEY,
	session TEXT NOT NULL,
	till    BIGINT NOT NULL
);
CREATE INDEX ticket_session ON ticket (session);
CREATE INDEX ticket_till ON ticket (till);

CREATE TABLE audit (
	id       TEXT PRIMARY KEY,
	at       BIGINT NOT NULL,
	app      TEXT NOT NULL,
	kind     TEXT NOT NULL,
	reason   TEXT NOT NULL,
	door     TEXT NOT NULL,
	action   TEXT NOT NULL,
	resource TEXT NOT NULL,
	subject  TEXT NOT NULL,
	token_id TEXT NOT NULL,
	key_id   TEXT NOT NULL,
	session  TEXT NOT NULL,
	source   TEXT NOT NULL,
	node     TEXT NOT NULL,
	actor    TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_app ON audit (app, at);

CREATE TABLE node (
	id   TEXT PRIMARY KEY,
	seen BIGINT NOT NULL
);

-- Where a device is connected. The row stays when it leaves, so that epochs only grow.
CREATE TABLE presence (
	device    TEXT PRIMARY KEY,
	node      TEXT NOT NULL,
	epoch     BIGINT NOT NULL,
	client_id TEXT NOT NULL,
	since     BIGINT NOT NULL,
	source    TEXT NOT NULL,
	version   TEXT NOT NULL
);

-- +goose Down
DROP TABLE presence;
DROP TABLE node;
DROP TABLE audit;
DROP TABLE ticket;
DROP TABLE session;
DROP TABLE spent;
DROP TABLE revocation;
DROP TABLE rule;
DROP TABLE device;
DROP TABLE app_key;
DROP TABLE app;
DROP TABLE master_key;
DROP TABLE change;
DROP TABLE revision;
