-- A release of the shop's program: a column in every row of the widest table, a new table, a new index.
ALTER TABLE users ADD COLUMN tier text NOT NULL DEFAULT 'standard';
CREATE TABLE invoices (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders, total numeric(12, 2) NOT NULL,
    issued_at timestamptz NOT NULL);
INSERT INTO invoices SELECT row_number() OVER (ORDER BY id), id, quantity * price, ordered_at FROM orders WHERE id % 50 = 0;
CREATE INDEX ON orders (ordered_at);
