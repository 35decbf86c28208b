#!server_ver: ver:3.3.7.5.alpha
#!taosdump_ver: incremental-bitmap 0.1.0
#!os_id: LINUX
#!escape_char: true
#!loose_mode: false
#!charset: UTF-8
#!dumpdb: d2: taosdump.1796127965406157
