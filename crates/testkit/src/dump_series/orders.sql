-- Narrow rows of numbers, in the order of time.
BEGIN;
SELECT setseed(0.2) \g /dev/null
CREATE TABLE orders (
    id bigint NOT NULL,
    user_id bigint NOT NULL,
    product_id int NOT NULL,
    quantity int NOT NULL,
    price numeric(10, 2) NOT NULL,
    status text NOT NULL,
    ordered_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (autovacuum_enabled = off);
INSERT INTO orders
SELECT id, 1 + (random() * (:users - 1))::bigint, (20000 * power(random(), 3))::int, 1 + (4 * power(random(), 4))::int,
    (9 + 90 * power(random(), 2))::int + 0.99, (ARRAY['new', 'paid', 'shipped', 'shipped', 'done'])[1 + (random() * 4)::int],
    ordered_at, ordered_at + interval '1 hour' * (random() * 48)::int
FROM (
    SELECT id, timestamptz '2022-01-01 UTC' + interval '1 second' * (id * 120.0 * 1000000 / :rows + random() * 100)::int AS ordered_at
    FROM generate_series(1, :rows) AS id
    OFFSET 0
) AS drawn;
ALTER TABLE orders ADD PRIMARY KEY (id);
COMMIT;
