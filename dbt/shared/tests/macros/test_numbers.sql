{{ wrong_cases([
    ['half goes up', decimal('4.335', 2), '4.34'],
    ['and down', decimal('-4.335', 2), '-4.34'],
    ['a double', decimal('0.1 + 0.2', 4), '0.3'],
    ['true', 'case when ' ~ flag('1 = 1') ~ ' = ' ~ flag('2 = 2') ~ ' then 1 else 0 end', '1'],
    ['false', 'case when ' ~ flag('1 = 2') ~ ' = ' ~ flag('2 = 2') ~ ' then 1 else 0 end', '0'],
    ['unknown is false', 'case when ' ~ flag('1 = nullif(1, 1)') ~ ' = ' ~ flag('1 = 2') ~ ' then 1 else 0 end', '1'],
]) }}
