{%- set document = json('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}') -%}
{%- set type = dbt.type_string() -%}
{{ wrong_cases([
    ['a text', json_field(document, 'text'), "'a b'"],
    ['a number', json_field(document, 'number'), "'7'"],
    ['a boolean', json_field(document, 'yes'), "'true'"],
    ['null', json_field(document, 'nothing'), 'cast(null as ' ~ type ~ ')'],
    ['not there', json_field(document, 'missing'), 'cast(null as ' ~ type ~ ')'],
    ['a name of two words', json_field(document, 'two words'), "'x'"],
    ['other letters', json_field(document, 'Ä'), "'ö'"],
]) }}
