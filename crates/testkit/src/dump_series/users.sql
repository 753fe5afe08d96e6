-- Wide rows, little in them alike: names, addresses, a hash nothing compresses, a JSON object.
BEGIN;
SELECT setseed(0.1) \g /dev/null
CREATE TABLE users (
    id bigint NOT NULL,
    email text NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    street text NOT NULL,
    postcode text NOT NULL,
    city text NOT NULL,
    country char(2) NOT NULL,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL,
    last_login_at timestamptz NOT NULL,
    login_count int NOT NULL,
    settings jsonb NOT NULL
) WITH (autovacuum_enabled = off);
INSERT INTO users
SELECT id,
    lower(first_name || '.' || last_name) || id % 977 || '@' || host || (ARRAY['.com', '.org', '.net', '.de'])[1 + id % 4],
    first_name, last_name,
    (1 + random() * 240)::int || ' ' || initcap(street) || (ARRAY[' Street', ' Road', ' Avenue', ' Lane'])[1 + id % 4],
    lpad((random() * 99999)::int::text, 5, '0'),
    initcap(city),
    (ARRAY['DE', 'FR', 'US', 'GB', 'NL', 'ES', 'IT', 'PL'])[1 + (8 * power(random(), 2))::int % 8],
    '$2b$12$' || translate(left(encode(sha384(random()::text::bytea), 'base64'), 53), '+/', './'),
    created_at, date_trunc('second', created_at + interval '200 days' * random()), (300 * power(random(), 3))::int,
    jsonb_build_object('theme', (ARRAY['light', 'dark', 'system'])[1 + (random() * 2)::int],
        'language', (ARRAY['en', 'de', 'fr', 'es'])[1 + (random() * 3)::int], 'newsletter', random() < 0.3,
        'roles', jsonb_build_array('customer'), 'time_zone', 'Europe/' || (ARRAY['Berlin', 'Paris', 'Madrid', 'London'])[1 + id % 4],
        'consents', jsonb_build_object('terms', '2024-01', 'privacy', '2024-03', 'marketing', random() < 0.3),
        'notifications', jsonb_build_object('email', random() < 0.8, 'push', random() < 0.4, 'sms', false),
        'page_size', (ARRAY[10, 25, 50, 100])[1 + (random() * 3)::int])
FROM (
    SELECT id, initcap(words[1 + (900 * power(random(), 2))::int]) AS first_name,
        initcap(words[1000 + (4000 * power(random(), 2))::int]) AS last_name,
        words[1 + (3000 * random())::int] AS street, words[3000 + (2000 * power(random(), 2))::int] AS city,
        words[100 + (50 * power(random(), 3))::int] AS host,
        timestamptz '2020-01-01 UTC' + interval '1 second' * (id * 150.0 * 1000000 / :rows + random() * 100)::int AS created_at
    FROM generate_series(1, :rows) AS id, (SELECT vocabulary_array() AS words OFFSET 0) AS vocabulary
    OFFSET 0
) AS drawn;
ALTER TABLE users ADD PRIMARY KEY (id);
COMMIT;
