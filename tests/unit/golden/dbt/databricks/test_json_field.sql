select cases.about, cases.found, cases.wanted
from (
    select 'a text' as about, get_json_object('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}', "$['text']") as found, 'a b' as wanted
    union all select 'a number' as about, get_json_object('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}', "$['number']") as found, '7' as wanted
    union all select 'a boolean' as about, get_json_object('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}', "$['yes']") as found, 'true' as wanted
    union all select 'null' as about, get_json_object('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}', "$['nothing']") as found, cast(null as string) as wanted
    union all select 'not there' as about, get_json_object('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}', "$['missing']") as found, cast(null as string) as wanted
    union all select 'a name of two words' as about, get_json_object('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}', "$['two words']") as found, 'x' as wanted
    union all select 'other letters' as about, get_json_object('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}', "$['Ä']") as found, 'ö' as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
