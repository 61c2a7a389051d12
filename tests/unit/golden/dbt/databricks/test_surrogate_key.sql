select cases.about, cases.found, cases.wanted
from (
    select 'one value' as about, md5(cast(concat(coalesce(replace(replace(cast('a' as string), '~', '~~'), '|', '~p'), '~n')) as string)) as found, '0cc175b9c0f1b6a831c399e269772661' as wanted
    union all select 'numbers are their text' as about, concat(coalesce(replace(replace(cast(12 as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(3 as string), '~', '~~'), '|', '~p'), '~n')) as found, '12|3' as wanted
    union all select 'the separator in the first value' as about, concat(coalesce(replace(replace(cast('a|b' as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast('c' as string), '~', '~~'), '|', '~p'), '~n')) as found, 'a~pb|c' as wanted
    union all select 'the separator in the second value' as about, concat(coalesce(replace(replace(cast('a' as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast('b|c' as string), '~', '~~'), '|', '~p'), '~n')) as found, 'a|b~pc' as wanted
    union all select 'NULL is not a text' as about, concat(coalesce(replace(replace(cast(cast(null as string) as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast('' as string), '~', '~~'), '|', '~p'), '~n')) as found, '~n|' as wanted
    union all select 'no text is NULL' as about, concat(coalesce(replace(replace(cast('~n' as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast('' as string), '~', '~~'), '|', '~p'), '~n')) as found, '~~n|' as wanted
    union all select 'several values' as about, md5(cast(concat(coalesce(replace(replace(cast('a' as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast(null as string), '~', '~~'), '|', '~p'), '~n'), '|', coalesce(replace(replace(cast('' as string), '~', '~~'), '|', '~p'), '~n')) as string)) as found, '35816b4e7ef1668e2e9af2f8f06cbab8' as wanted
) as cases
where cases.found <> cases.wanted
    or (cases.found is null and cases.wanted is not null)
    or (cases.found is not null and cases.wanted is null)
