CREATE TABLE rounds (
    request_id VARCHAR(36) NOT NULL,
    fingerprint VARCHAR(64) NOT NULL,
    group_id VARCHAR(36) NOT NULL,
    release BIGINT NOT NULL,
    state VARCHAR(8) NOT NULL,
    owner VARCHAR(36) NOT NULL,
    lease_until_us BIGINT NOT NULL,
    event BYTEA,
    PRIMARY KEY (request_id),
    UNIQUE (group_id)
);
CREATE TABLE groups (
    group_id VARCHAR(36) NOT NULL,
    request_id VARCHAR(36) NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    prompt TEXT NOT NULL,
    negative_prompt TEXT NOT NULL,
    release BIGINT NOT NULL,
    create_time_us BIGINT NOT NULL,
    num_steps INTEGER NOT NULL,
    guidance_scale FLOAT(53) NOT NULL,
    adapter_scale FLOAT(53) NOT NULL,
    sampler VARCHAR(32) NOT NULL,
    seed BIGINT NOT NULL,
    strength FLOAT(53),
    reference_image_sha256 VARCHAR(64) NOT NULL,
    refused_wishes JSON NOT NULL,
    PRIMARY KEY (group_id),
    FOREIGN KEY(group_id) REFERENCES rounds (group_id)
);
CREATE INDEX groups_by_user ON groups (user_id, create_time_us, group_id);
CREATE TABLE candidates (
    group_id VARCHAR(36) NOT NULL,
    rank INTEGER NOT NULL,
    image_id VARCHAR(36) NOT NULL,
    uri TEXT NOT NULL,
    seed BIGINT NOT NULL,
    score FLOAT(53) NOT NULL,
    wishes JSON NOT NULL,
    PRIMARY KEY (group_id, rank),
    FOREIGN KEY(group_id) REFERENCES groups (group_id),
    UNIQUE (image_id)
);
