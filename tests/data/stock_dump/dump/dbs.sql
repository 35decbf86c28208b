#!server_ver: ver:3.3.7.5
#!taosdump_ver: 3.3.7.5_
#!os_id: LINUX
#!escape_char: true
#!loose_mode: false
#!charset: UTF-8
#!dumpdb: d1: 

