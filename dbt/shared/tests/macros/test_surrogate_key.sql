{{ wrong_cases([
    ['one value', surrogate_key(["'a'"]), "'0cc175b9c0f1b6a831c399e269772661'"],
    ['numbers are their text', key_text(['12', '3']), "'12|3'"],
    ['the separator in the first value', key_text(["'a|b'", "'c'"]), "'a~pb|c'"],
    ['the separator in the second value', key_text(["'a'", "'b|c'"]), "'a|b~pc'"],
    ['NULL is not a text', key_text(["cast(null as " ~ dbt.type_string() ~ ")", "''"]), "'~n|'"],
    ['no text is NULL', key_text(["'~n'", "''"]), "'~~n|'"],
    ['several values', surrogate_key(["'a'", 'null', "''"]), "'35816b4e7ef1668e2e9af2f8f06cbab8'"],
]) }}
