CREATE TABLE user_profiles (
    user_id VARCHAR(128) NOT NULL,
    features JSON NOT NULL,
    update_time_us BIGINT NOT NULL,
    PRIMARY KEY (user_id)
);
