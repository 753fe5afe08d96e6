-- What a restore must bring back, one fact a line, in an order that does not depend on the server.
-- Names come with their schema because the search path is narrowed.
SET search_path = pg_catalog;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';
SET bytea_output = 'hex';
SET extra_float_digits = 3;

CREATE TEMPORARY VIEW user_schemas AS
SELECT oid FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema';

SELECT format('extension %s %s', extname, extversion) FROM pg_extension ORDER BY extname COLLATE "C";

SELECT format('schema %I', nspname) COLLATE "C" AS line FROM pg_namespace n
WHERE n.oid IN (SELECT oid FROM pg_temp.user_schemas) ORDER BY line;

SELECT format('enum %s %s', enumtypid::regtype, string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder)) COLLATE "C" AS line
FROM pg_enum GROUP BY enumtypid ORDER BY line;

SELECT format('column %s.%I %s%s%s %s', c.oid::regclass, attname, format_type(atttypid, atttypmod),
    CASE WHEN attnotnull THEN ' not null' END, ' ' || nullif(attidentity::text || attgenerated::text, ''),
    pg_get_expr(d.adbin, d.adrelid)) COLLATE "C" AS line
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'm', 'v', 'c', 'f')
    AND relnamespace IN (SELECT oid FROM pg_temp.user_schemas)
ORDER BY line;

SELECT format('constraint %s %I %s', coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text),
    conname, pg_get_constraintdef(oid)) COLLATE "C" AS line
FROM pg_constraint WHERE connamespace IN (SELECT oid FROM pg_temp.user_schemas) ORDER BY line;

SELECT format('index %s', pg_get_indexdef(oid)) COLLATE "C" AS line
FROM pg_class WHERE relkind IN ('i', 'I') AND relnamespace IN (SELECT oid FROM pg_temp.user_schemas)
ORDER BY line;

SELECT format('trigger %s', pg_get_triggerdef(oid)) COLLATE "C" AS line
FROM pg_trigger WHERE NOT tgisinternal ORDER BY line;

SELECT format('view %s %s', oid::regclass, md5(pg_get_viewdef(oid))) COLLATE "C" AS line
FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace IN (SELECT oid FROM pg_temp.user_schemas)
ORDER BY line;

SELECT format('function %s %s', oid::regprocedure,
    CASE WHEN prokind = 'a' THEN 'aggregate' ELSE md5(pg_get_functiondef(oid)) END) COLLATE "C" AS line
FROM pg_proc WHERE pronamespace IN (SELECT oid FROM pg_temp.user_schemas) ORDER BY line;

-- Partitions are hashed one by one and as a whole through their parent.
SELECT format('SELECT %L || count(*) || '' rows '' || coalesce(md5(string_agg(h, '''' ORDER BY h COLLATE "C")), ''-'')'
    ' FROM (SELECT md5(t::text) AS h FROM %s AS t) AS hashes', format('table %s ', oid::regclass), oid::regclass)
FROM pg_class WHERE relkind IN ('r', 'p', 'm') AND relnamespace IN (SELECT oid FROM pg_temp.user_schemas)
    AND relispopulated
ORDER BY oid::regclass::text COLLATE "C" \gexec

SELECT format('SELECT %L || last_value || '' called '' || is_called FROM %s', format('sequence %s ', oid::regclass),
    oid::regclass)
FROM pg_class WHERE relkind = 'S' AND relnamespace IN (SELECT oid FROM pg_temp.user_schemas)
ORDER BY oid::regclass::text COLLATE "C" \gexec

SELECT format('large object %s %s', oid, md5(lo_get(oid))) FROM pg_largeobject_metadata ORDER BY oid;
