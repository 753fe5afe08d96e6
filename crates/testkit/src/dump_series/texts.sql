-- Prose: paragraphs of words, the common ones common.
BEGIN;
SELECT setseed(0.4) \g /dev/null
CREATE TABLE texts (id bigint NOT NULL, author_id bigint NOT NULL, title text NOT NULL, body text NOT NULL)
WITH (autovacuum_enabled = off);
INSERT INTO texts
SELECT id, 1 + (random() * (:users - 1))::bigint, initcap(words[1 + (8000 * random())::int] || ' ' || words[1 + (id % 800)::int]),
    (SELECT string_agg(words[1 + (8191 * power(random(), 3))::int] || CASE WHEN position % 90 = 0 THEN E'.\n\n'
        WHEN random() < 0.08 THEN '. ' WHEN random() < 0.06 THEN ', ' ELSE ' ' END, '')
        FROM generate_series(1, 120 + id % 160) AS position)
FROM generate_series(1, :rows) AS id, (SELECT vocabulary_array() AS words OFFSET 0) AS vocabulary;
ALTER TABLE texts ADD PRIMARY KEY (id);
COMMIT;
