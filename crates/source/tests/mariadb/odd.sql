CREATE TABLE `odd ``name'"é漢` (
  id INT PRIMARY KEY AUTO_INCREMENT, tiny TINYINT UNSIGNED, big BIGINT, amount DECIMAL(30,10), ratio DOUBLE,
  small FLOAT, bits BIT(13), day DATE, at DATETIME(6), stamp TIMESTAMP(3) NULL, hour TIME(4), y YEAR,
  fixed CHAR(5), name VARCHAR(200), body LONGTEXT, raw VARBINARY(300), blob_ LONGBLOB, choice ENUM('a','b''c','ü'),
  several SET('x','y'), doc JSON, place POINT, doubled INT AS (tiny * 2) VIRTUAL, kept INT AS (tiny * 3) STORED,
  latin VARCHAR(50) CHARACTER SET latin1, dflt VARCHAR(20) DEFAULT 'it''s\\\n', `select` INT CHECK (`select` > 0),
  KEY (name(10)), FULLTEXT KEY (body)
) COMMENT='a ; comment -- with `quotes` and ''text''';
INSERT INTO `odd ``name'"é漢` (tiny, big, amount, ratio, small, bits, day, at, stamp, hour, y, fixed, name, body, raw,
  blob_, choice, several, doc, place, latin, `select`) VALUES
  (255, -9223372036854775808, 12345678901234567890.0123456789, 1.7976931348623157e308, 1.5, b'1010101010101',
   '1000-01-01', '9999-12-31 23:59:59.999999', '2001-02-03 04:05:06.789', '-838:59:59', 1901, 'x', 'o''brien; (\\',
   '-- Dump completed\nINSERT INTO `t` VALUES (1);\r\n\ttab \0 nul 😀', X'00FF2760225C0A0D1A', REPEAT(X'00275C', 1000), 'b''c',
   'x,y', '{"a": [1, "\\""]}', POINT(1.5, -2), 'ä ß', 1),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', '', '', '', NULL, '', NULL, NULL, '', NULL);
INSERT INTO `odd ``name'"é漢` (id, name) VALUES (-5, 'minus');
CREATE TABLE parent (id INT PRIMARY KEY, v INT) PARTITION BY HASH (id) PARTITIONS 3;
INSERT INTO parent SELECT seq, seq * 7 FROM seq_1_to_500;
CREATE TABLE person (id INT PRIMARY KEY, name VARCHAR(50));
CREATE TABLE pet (id INT PRIMARY KEY, owner INT, FOREIGN KEY (owner) REFERENCES person (id) ON DELETE CASCADE);
INSERT INTO person VALUES (1, 'Ada'), (2, 'Bob');
INSERT INTO pet VALUES (1, 1), (2, 2), (3, NULL);
CREATE TABLE seen (what VARCHAR(100), at DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE aria (a INT) ENGINE=Aria;
INSERT INTO aria VALUES (1), (2);
CREATE SEQUENCE numbers START WITH 100 INCREMENT BY 10 NOCACHE;
CREATE TABLE numbered (id INT DEFAULT NEXTVAL(numbers), v INT);
INSERT INTO numbered (v) VALUES (1), (2);
CREATE VIEW b_view AS SELECT p.id, p.name FROM person p WHERE p.name LIKE 'A%' OR p.name = '`q`.x';
CREATE VIEW a_view AS SELECT * FROM b_view;
CREATE TABLE empty (a INT);
DELIMITER //
CREATE TRIGGER note_person AFTER INSERT ON person FOR EACH ROW
BEGIN
  -- Dump completed
  INSERT INTO seen (what) VALUES (CONCAT('person; ', NEW.name));
END//
CREATE TRIGGER note_person_too AFTER INSERT ON person FOR EACH ROW INSERT INTO seen (what) VALUES ('second')//
CREATE PROCEDURE add_person(IN given VARCHAR(50), OUT total INT) MODIFIES SQL DATA COMMENT 'it''s a comment'
BEGIN
  /* inner comment */
  INSERT INTO person SELECT MAX(id) + 1, given FROM person;
  SELECT COUNT(*) INTO total FROM person;
END//
CREATE FUNCTION twice(x INT) RETURNS INT DETERMINISTIC RETURN x * 2//
CREATE VIEW with_function AS SELECT twice(id) AS two FROM person//
CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND STARTS '2020-01-01 00:00:00' COMMENT 'PRESERVE ENABLE' DO
  INSERT INTO seen (what) VALUES ('tick PRESERVE ENABLE')//
CREATE EVENT `sleepy ``one` ON SCHEDULE EVERY 1 DAY STARTS '2020-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE DO SELECT 1//
SET SESSION sql_mode = 'ORACLE'//
CREATE PACKAGE tools AS PROCEDURE hello; END//
CREATE PACKAGE BODY tools AS PROCEDURE hello AS BEGIN SELECT 'hello'; END; END//
DELIMITER ;
