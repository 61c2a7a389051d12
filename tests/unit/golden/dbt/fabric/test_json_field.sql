select cases.about, cases.found, cases.wanted
from (
    select 'a text' as about, json_value(cast('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}' as varchar(8000)), '$."text"') as found, 'a b' as wanted
    union all select 'a number' as about, json_value(cast('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}' as varchar(8000)), '$."number"') as found, '7' as wanted
    union all select 'a boolean' as about, json_value(cast('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}' as varchar(8000)), '$."yes"') as found, 'true' as wanted
    union all select 'null' as about, json_value(cast('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}' as varchar(8000)), '$."nothing"') as found, cast(null as VARCHAR(MAX)) as wanted
    union all select 'not there' as about, json_value(cast('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}' as varchar(8000)), '$."missing"') as found, cast(null as VARCHAR(MAX)) as wanted
    union all select 'a name of two words' as about, json_value(cast('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}' as varchar(8000)), '$."two words"') as found, 'x' as wanted
    union all select 'other letters' as about, json_value(cast('{"text": "a b", "number": 7, "yes": true, "nothing": null, "two words": "x", "Ä": "ö"}' as varchar(8000)), '$."Ä"') as found, 'ö' as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
