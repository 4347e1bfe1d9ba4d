CREATE TABLE feedback (
    request_id VARCHAR(36) NOT NULL,
    event_id VARCHAR(36) NOT NULL,
    group_id VARCHAR(36) NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    release BIGINT NOT NULL,
    selected_image_ids JSON NOT NULL,
    unselected_image_ids JSON NOT NULL,
    create_time_us BIGINT NOT NULL,
    published BOOLEAN NOT NULL,
    PRIMARY KEY (request_id),
    UNIQUE (event_id)
);
