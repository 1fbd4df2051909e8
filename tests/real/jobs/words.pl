# The perl job: hashes, strings, arrays of arrays and regular expressions.   words.pl ROUNDS
use strict;
use warnings;

my $rounds = shift // 1;
my $state = 12345;
sub draw { # the same numbers on every machine, whatever perl's own generator does
    my ($bound) = @_;
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return int($state / 65536) % $bound;
}

my @syllables = qw(ka lo mi ne ru sha tor vel wix yan zo pre con dis);
my ($total, %kept) = (0);
for my $round (1 .. $rounds) {
    my (%count, %where, @lines);
    for my $line (1 .. 30000) {
        my $text = join ' ', map { join '', map { $syllables[draw(14)] } 0 .. draw(4) } 0 .. draw(9);
        push @lines, $text;
        for my $word (split / /, $text) {
            $count{$word}++;
            push @{ $where{$word} }, $line;
        }
    }
    my @sorted = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    my $joined = '';
    for my $word (@sorted[0 .. 999]) {
        $joined .= sprintf '%s=%d@%s;', $word, $count{$word}, join ',', @{ $where{$word} }[0 .. 2];
    }
    $total += length $joined;
    (my $swapped = join "\n", @lines) =~ s/(\w+) (\w+)/$2 $1/g;
    $total += () = $swapped =~ /sha\w*tor/g;
    my $tree = {};
    for my $word (@sorted) {
        my $node = $tree;
        $node = $node->{$_} //= {} for split //, $word;
        $node->{end} = [$word, $count{$word}];
    }
    my @stack = ($tree);
    while (my $node = pop @stack) {
        $total += exists $node->{end} ? $node->{end}[1] : 0;
        push @stack, map { $node->{$_} } grep { length == 1 } sort keys %$node;
    }
    delete $kept{ $round - 3 };
    $kept{$round} = { map { $_ => "$_ of round $round" } @sorted[0 .. 4999] };
    print "round $round: ", scalar(@sorted), " words, total $total, ", substr($joined, 0, 60), "\n";
}
print join(' ', map { "$_:" . scalar keys %{ $kept{$_} } } sort { $a <=> $b } keys %kept), "\n";
