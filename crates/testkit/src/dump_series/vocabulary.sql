-- Words for names and texts. `name` has a fixed width, so that an array of it is indexed in constant time.
CREATE FUNCTION syllable(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT (ARRAY['ba', 'ker', 'lo', 'mi', 'ran', 'te', 'sol', 'vi', 'dun', 'a', 'es', 'tor', 'ni', 'pre', 'con', 'ly',
        'ing', 'er', 'ma', 'de', 're', 'un', 'st', 'ou', 'gar', 'hol', 'wen', 'fri', 'ck', 'ble', 'shi', 'qua'])[1 + n % 32]
$$;
CREATE TABLE vocabulary (id int PRIMARY KEY, word name NOT NULL);
-- As in a language, the words used most are the shortest.
INSERT INTO vocabulary
SELECT n, string_agg(syllable((hashint8extended(n * 8 + part, 7) & 65535)), '' ORDER BY part)
FROM generate_series(0, 8191) AS n, generate_series(1, 1 + ceil(log(2, 2 + n) / 5)::int) AS part
GROUP BY n;
CREATE FUNCTION vocabulary_array() RETURNS name[] LANGUAGE sql STABLE AS
    'SELECT array_agg(word ORDER BY id) FROM vocabulary';
