-- After the load, as a restore does it: what ties the tables together, and a clean state for the first dump.
DROP FUNCTION vocabulary_array();
DROP TABLE vocabulary;
DROP FUNCTION syllable(bigint);
ALTER TABLE events ADD PRIMARY KEY (id);
ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users;
CREATE INDEX ON events (user_id);
CREATE VIEW open_orders AS SELECT user_id, count(*) AS orders FROM orders WHERE status IN ('new', 'paid') GROUP BY user_id;
CREATE SEQUENCE order_ids OWNED BY orders.id;
SELECT setval('order_ids', (SELECT max(id) FROM orders)) \g /dev/null
VACUUM ANALYZE;
