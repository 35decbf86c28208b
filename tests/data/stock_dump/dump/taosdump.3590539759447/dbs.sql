#!server_ver: ver:3.3.7.5
#!taosdump_ver: 3.3.7.5_
#!os_id: LINUX
#!escape_char: true
#!loose_mode: false
#!charset: UTF-8
CREATE DATABASE IF NOT EXISTS d1 REPLICA 1   DURATION 10d KEEP 36500d,36500d,36500d     PRECISION 'ms'   MINROWS 100 MAXROWS 4096 COMP 2 ;

CREATE TABLE IF NOT EXISTS `d1`.`s` (`ts` TIMESTAMP, `i` INT, `v` VARCHAR(20)) TAGS (`t` INT)
